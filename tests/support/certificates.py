"""Certificates for TLS, made with openssl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="certificates are made with openssl")

HERE = "DNS:localhost,IP:127.0.0.1"
ELSEWHERE = "DNS:elsewhere.example"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificates(NamedTuple):
    """PEM files: ``authority`` and pairs it has signed, ``stranger-authority`` and its pair.

    The pairs of the authority are ``server``, ``client``, ``elsewhere`` (of another host) and
    ``expired``; that of the other one is ``stranger``. Each is a NAME.pem and a NAME.key.
    """

    folder: Path

    def __getitem__(self, name: str) -> Path:  # type: ignore[override]
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The content of a file."""
        return self[name].read_bytes()


def make_certificates(folder: Path) -> Certificates:
    """Make all of them in a folder."""
    for authority in ("authority", "stranger-authority"):
        _openssl(
            folder,
            *("req", "-x509", *_NEW_KEY, "-keyout", f"{authority}.key"),
            *("-out", f"{authority}.pem", "-days", "2", "-subj", f"/CN={authority}"),
        )
    _sign(folder, "server", "authority")
    _sign(folder, "client", "authority")
    _sign(folder, "elsewhere", "authority", host=ELSEWHERE)
    _sign(folder, "expired", "authority", days=-1)
    _sign(folder, "stranger", "stranger-authority")
    return Certificates(folder)


def _sign(folder: Path, name: str, authority: str, *, host: str = HERE, days: int = 2) -> None:
    (folder / "extensions").write_text(f"subjectAltName={host}\n")
    request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    _openssl(folder, "req", *_NEW_KEY, *request)
    _openssl(
        folder,
        *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.pem"),
        *("-CAkey", f"{authority}.key", "-CAcreateserial", "-days", str(days)),
        *("-extfile", "extensions", "-out", f"{name}.pem"),
    )


def _openssl(folder: Path, *arguments: str) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True, timeout=30)
