"""The TLS files of gRPC, when they are renewed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from core.tls_files import TlsFileError, TlsFiles
from grpc_api import certificates
from tests.support.certificates import Certificates, make_certificates, needs_openssl

pytestmark = needs_openssl


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def files(made: Certificates, tmp_path: Path) -> TlsFiles:
    """Files of a server with mutual TLS, for the test to change."""
    for name in ("server.pem", "server.key", "authority.pem"):
        shutil.copy(made[name], tmp_path)
    return TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "authority.pem")


def replace(path: Path, new: Path) -> None:
    """Put another file in its place, as a tool that renews certificates does."""
    copy = path.with_suffix(".new")
    shutil.copyfile(new, copy)
    os.replace(copy, path)


def test_renewed_files_are_used_once_both_are_there(
    files: TlsFiles,
    made: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("core.tls_files.CHECK_SECONDS", 0.0)
    watched = certificates.Certificates(files)
    watched.load()
    watched.credentials()
    assert watched._next() is None
    replace(files.certificate, made["client.pem"])  # its key is still that of the old one
    assert [watched._next() for _ in range(3)] == [None] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(files.key) in caplog.text
    replace(files.key, made["client.key"])
    assert watched._next() is not None
    assert watched._next() is None
    watched.reload()
    assert watched._next() is not None


def test_files_are_looked_at_once_a_second(files: TlsFiles, made: Certificates) -> None:
    watched = certificates.Certificates(files)
    watched.load()
    watched.credentials()
    watched._next()
    replace(files.certificate, made["client.pem"])
    replace(files.key, made["client.key"])
    assert watched._next() is None
    watched.reload()  # at once
    assert watched._next() is not None


def test_files_that_could_not_be_read_are_tried_again_although_they_stay_the_same(
    files: TlsFiles,
    made: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("core.tls_files.CHECK_SECONDS", 0.0)
    watched = certificates.Certificates(files)
    watched.load()
    watched.credentials()
    with monkeypatch.context() as patched:

        def fail(_: TlsFiles) -> None:
            raise TlsFileError("key", files.key, "too many open files")

        patched.setattr(certificates, "server_context", fail)
        watched.reload()
        assert [watched._next() for _ in range(3)] == [None] * 3
    assert caplog.text.count("too many open files") == 1
    assert watched._next() is not None
