"""The generated modules."""

from __future__ import annotations

from grpc_api import generate
from grpc_api.pb import ingest_pb2 as of_the_server
from wepeople_ingest_client.pb import ingest_pb2 as of_the_client


def test_the_committed_modules_are_those_of_the_contract() -> None:
    committed = {
        package: {path.name: path.read_text("utf-8") for path in folder.iterdir() if path.is_file()}
        for package, folder in generate.FOLDERS.items()
    }
    assert committed == generate.generate()


def test_server_and_client_share_a_process() -> None:
    descriptor = of_the_client.IngestEvent.DESCRIPTOR
    assert descriptor == of_the_server.IngestEvent.DESCRIPTOR
