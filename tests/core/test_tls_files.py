"""TLS files: what is wrong with them, by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.tls_files import TlsFileError, TlsFiles, server_context
from tests.support.certificates import Certificates, needs_openssl

pytestmark = needs_openssl


@pytest.fixture
def files(certificates: Certificates, tmp_path: Path) -> TlsFiles:
    """Files of a server with mutual TLS, for the test to change."""
    for name in ("server.pem", "server.key", "authority.pem"):
        shutil.copy(certificates[name], tmp_path)
    return TlsFiles(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "authority.pem")


def missing(path: Path) -> None:
    path.unlink()


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nno certificate")


@pytest.mark.parametrize("role", TlsFiles._fields)
@pytest.mark.parametrize("spoil", [missing, unreadable, empty, garbage])
def test_a_file_that_cannot_be_used_is_named(
    files: TlsFiles, role: str, spoil: Callable[[Path], None]
) -> None:
    server_context(files)
    path: Path = getattr(files, role)
    spoil(path)
    with pytest.raises(TlsFileError, match=str(path)) as caught:
        server_context(files)
    assert caught.value.role == role


def test_a_key_of_another_certificate_is_named(files: TlsFiles, certificates: Certificates) -> None:
    shutil.copy(certificates["client.key"], files.key)
    with pytest.raises(TlsFileError, match="is not the key of") as caught:
        server_context(files)
    assert caught.value.role == "key"
