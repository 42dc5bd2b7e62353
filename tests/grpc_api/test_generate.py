"""The generated modules."""

from __future__ import annotations

from pathlib import Path

from grpc_api import generate


def test_the_committed_modules_are_those_of_the_contract() -> None:
    package = Path(generate.OUTPUT)
    committed = {path.name: path.read_text("utf-8") for path in package.iterdir() if path.is_file()}
    assert committed == generate.generate()
