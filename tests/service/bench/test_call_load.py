"""Load of any gRPC server, by what describes its methods."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from service.bench.call_load import ordered
from service.bench.http_load import LoadError


def files(**needed: list[str]) -> dict[str, FileDescriptorProto]:
    return {
        name: FileDescriptorProto(name=name, dependency=needs) for name, needs in needed.items()
    }


def test_a_file_comes_after_those_that_it_needs() -> None:
    found = ordered(files(a=["b", "c"], b=["c"], c=[]))
    assert [file.name for file in found] == ["c", "b", "a"]


def test_a_long_chain_of_files_is_ordered() -> None:
    chain = {f"f{number}": [f"f{number + 1}"] for number in range(5_000)}
    assert len(ordered(files(**chain, f5000=[]))) == 5_001


def test_files_that_need_each_other_are_told() -> None:
    with pytest.raises(LoadError, match="need each other"):
        ordered(files(a=["b"], b=["a"]))
