"""The end of certificates, as openssl tells it."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from core.certificate_expiry import earliest_end
from tests.support.certificates import OPENSSL, Certificates, needs_openssl

pytestmark = needs_openssl


def told_by_openssl(file: Path) -> float:
    command = [OPENSSL or "", "x509", "-noout", "-enddate", "-in", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return ssl.cert_time_to_seconds(done.stdout.strip().removeprefix("notAfter="))


@pytest.mark.parametrize("name", ["authority", "server", "expired"])
def test_it_is_the_end_that_openssl_tells(certificates: Certificates, name: str) -> None:
    file = certificates[f"{name}.pem"]
    assert earliest_end(file.read_text()) == told_by_openssl(file)


def test_of_a_chain_the_first_end_counts(certificates: Certificates) -> None:
    names = ("server.pem", "expired.pem", "authority.pem")
    chain = "text before\n" + "".join(certificates[name].read_text() for name in names)
    assert earliest_end(chain) == told_by_openssl(certificates["expired.pem"])


def test_a_year_beyond_2049_is_read(tmp_path: Path) -> None:
    file = tmp_path / "long.pem"
    command = [OPENSSL or "", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "20000"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(file), "-subj", "/CN=long"]
    subprocess.run([*command, *files], capture_output=True, check=True)
    assert earliest_end(file.read_text()) == told_by_openssl(file) > 2_524_608_000


def test_what_is_no_certificate_is_a_value_error(certificates: Certificates) -> None:
    whole = ssl.PEM_cert_to_DER_cert(certificates["server.pem"].read_text())
    assert earliest_end(ssl.DER_cert_to_PEM_cert(whole))
    cut_off = [ssl.DER_cert_to_PEM_cert(whole[:length]) for length in range(0, 100, 7)]
    for garbage in ("", ssl.DER_cert_to_PEM_cert(b"\x30\x03abc"), *cut_off):
        with pytest.raises(ValueError, match=r"."):
            earliest_end(garbage)
