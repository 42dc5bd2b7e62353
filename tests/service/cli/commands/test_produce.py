"""``wepeople-ingest produce``: its summary, its options and its failures."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.service.cli.produce.events_file import (
    Produce,
    numbered,
    produce_process,
    stored_numbers,
    write,
)
from tests.support.certificates import Certificates, needs_openssl
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant


def test_every_line_is_stored_once_however_often_it_is_run(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", numbered(1_234))
    first = produce(file, "--json")
    assert (first.code, first.err) == (0, "")
    said = first.json()
    expected = {"lines": 1_234, "accepted": 1_234, "rejected": 0, "alreadyStored": 0}
    assert expected.items() <= said.items()
    assert said["alreadyRejected"] == 0
    assert said["finished"] is True
    again = produce(file, "--json")
    assert again.code == 0
    assert {"accepted": 0, "alreadyStored": 1_234}.items() <= again.json().items()
    assert again.json()["producerId"] == said["producerId"]
    assert stored_numbers(tenant) == Counter(range(1_234))


def test_the_summary_is_for_people_too(produce: Produce, tmp_path: Path) -> None:
    done = produce(write(tmp_path / "events.ndjson", numbered(3)))
    assert done.code == 0
    fields = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert fields["accepted"] == "3"
    assert fields["rejected"] == "0"


def test_another_id_stores_the_file_once_more(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", numbered(5))
    for producer_id in ("one", "two", "one"):
        assert produce(file, "--producer-id", producer_id).code == 0
    assert stored_numbers(tenant) == Counter(list(range(5)) * 2)


def test_lines_from_a_pipe(server: Addresses, tenant: Tenant) -> None:
    text = "".join(json.dumps(line) + "\n" for line in numbered(2_000))
    arguments = ("-", "--producer-id", "export-7", "--json")
    for already, accepted in ((0, 2_000), (2_000, 0)):
        with produce_process(server, tenant, *arguments, stdin=subprocess.PIPE) as started:
            out, err = started.communicate(text, timeout=60)
        assert (started.returncode, err) == (0, "")
        said = json.loads(out)
        assert (said["alreadyStored"], said["accepted"]) == (already, accepted)
        assert said["producerId"] == "export-7"
    assert stored_numbers(tenant) == Counter(range(2_000))


def test_a_revoked_key_ends_it_with_the_reason(
    produce: Produce, tenant: Tenant, tmp_path: Path
) -> None:
    asyncio.run(tenant.revoke())
    done = produce(write(tmp_path / "events.ndjson", numbered(1)), "--json")
    assert done.code == 1
    assert {"finished": False, "lines": 0, "accepted": 0}.items() <= done.json().items()
    assert "KEY_REVOKED" in done.err.splitlines()[0]


def test_a_server_that_is_not_there(server: Addresses, tenant: Tenant, tmp_path: Path) -> None:
    file = write(tmp_path / "events.ndjson", numbered(1))
    nowhere = Addresses("", "127.0.0.1:1", "")
    with produce_process(nowhere, tenant, file, "--patience", "1s") as started:
        out, err = started.communicate(timeout=30)
    assert (started.returncode, out) == (1, "")
    assert "Connection refused" in err
    assert "given up after 1 s" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-"], "is needed for what can be read only once"),
        (["{missing}"], "No such file"),
        (["{folder}"], "is a folder"),
        (["{file}", "--batch", "501"], "--batch"),
        (["{file}", "--server", "here"], "is not HOST:PORT"),
        (["{file}", "--key-file", "{empty}"], "there is no API key"),
        (["{file}", "--ca", "{file}", "--insecure"], "contradicts files for TLS"),
        (["{file}", "--cert", "{file}"], "must be given together"),
        (["{file}", "--cert-key", "{file}"], "must be given together"),
    ],
)
def test_wrong_usage(produce: Produce, tmp_path: Path, arguments: list[str], message: str) -> None:
    paths = {
        "file": write(tmp_path / "events.ndjson", numbered(1)),
        "missing": tmp_path / "missing",
        "folder": tmp_path,
        "empty": write(tmp_path / "empty", []),
    }
    done = produce(*(argument.format(**paths) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert message in " ".join(done.err.split())


@needs_openssl
@pytest.mark.parametrize(
    ("ca", "client", "reason"),
    [
        ("authority", "client", None),
        ("authority", None, "the server wants a certificate of the client (TLS_FAILED)"),
        ("authority", "stranger", "the server does not accept the client's certificate"),
        ("stranger-authority", "client", "the server's certificate is not trusted"),
        (None, None, "the server speaks TLS and this client does not (TLS_FAILED)"),
    ],
)
def test_mutual_tls(
    mutual_tls: Addresses,
    certificates: Certificates,
    tenant: Tenant,
    tmp_path: Path,
    ca: str | None,
    client: str | None,
    reason: str | None,
) -> None:
    options: list[object] = [] if ca is None else ["--ca", certificates[f"{ca}.pem"]]
    if client is not None:
        pair = certificates[f"{client}.pem"], certificates[f"{client}.key"]
        options += ["--cert", pair[0], "--cert-key", pair[1]]
    file = write(tmp_path / "events.ndjson", numbered(3))
    with produce_process(mutual_tls, tenant, file, *options, "--patience", "1h") as started:
        _, err = started.communicate(timeout=60)
    if reason is None:
        assert (started.returncode, err) == (0, "")
        assert stored_numbers(tenant) == Counter(range(3))
    else:
        assert started.returncode == 1
        assert reason in err.splitlines()[0]


@needs_openssl
def test_a_file_for_tls_that_cannot_be_used_is_named(
    produce: Produce, certificates: Certificates, tmp_path: Path
) -> None:
    file = write(tmp_path / "events.ndjson", numbered(1))
    pair = "--cert", certificates["client.pem"], "--cert-key", certificates["stranger.key"]
    done = produce(file, *pair)
    assert (done.code, done.out) == (1, "")
    assert f"cannot use {certificates['client.pem']} with {pair[-1]} for TLS" in done.err


def test_without_a_key(produce: Produce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEPEOPLE_API_KEY")
    done = produce(write(tmp_path / "events.ndjson", numbered(1)))
    assert done.code == 2
    assert "WEPEOPLE_API_KEY" in done.err


def test_an_interrupt_before_anything_is_sent_is_a_failure_with_its_reason(
    produce: Produce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.cli.commands.produce._key", interrupt)
    done = produce(write(tmp_path / "events.ndjson", numbered(1)), "--json")
    assert (done.code, done.out, done.err) == (1, "", "wepeople-ingest: interrupted\n")
