"""Foreign services that files describe: the load reaches them as described, and is counted."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

import pytest

import service.bench
from service.bench.call_load import run_calls
from service.bench.http_load import LoadError, run_http
from service.bench.load import HttpLoad
from service.bench.peer import Peer, PeerError
from service.bench.recorder import Recorder, now
from tests.service.cli.command import run_here
from tests.support.peer_servers import Arrived, descriptors, grpc_peer, http_peer
from tests.support.running_service import Addresses
from tests.support.service_process import PROGRAM, without_settings
from tests.support.tenant import Tenant

pytestmark = pytest.mark.anyio

FOLDER: Final = Path(service.bench.__file__).parent / "peers"
EXAMPLES: Final = sorted(FOLDER.glob("*.toml"))
BATCH: Final = 7
SECONDS: Final = 0.5
WAIT_SECONDS: Final = 90.0

HTTP: Final = """
title = "FastAPI"
batch = 7
concurrency = 3
body = '{"rows": [${items}]}'
item = '{"id": "${id}", "at": "${time}", "place": ${index}}'

[http]
url = "http://127.0.0.1:PORT/bulk?at=once"

[http.headers]
X-Request = "${env:NAME}-${id}"

[success]
status = [201]
path = "stored.count"
equals = 7
"""
GRPC: Final = """
title = "grpc.aio"
batch = 7
concurrency = 3
body = '{"requestId": "${id}", "rows": [${items}]}'
item = '{"id": "${id}", "at": "${time}"}'

[grpc]
server = "127.0.0.1:PORT"
method = "peer.v1.Store/Put"

[success]
path = "rowCount"
equals = 7
"""


class Counter(Recorder):
    """A recorder that counts every answer, those after the end, too."""

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__(now(), seconds)
        self.answers = 0

    def answered(self, intended: float, events: int) -> None:
        """Count it."""
        self.answers += 1
        super().answered(intended, events)


def described(folder: Path, text: str, port: int = 1, name: str = "peer") -> Peer:
    file = folder / f"{name}.toml"
    file.write_text(text.replace("PORT", str(port)))
    return Peer(file, {"NAME": "bench"})


async def make(peer: Peer, recorder: Recorder) -> None:
    load = peer.load()
    if isinstance(load, HttpLoad):
        await run_http(load, recorder)
    else:
        await run_calls(load, recorder)


def check(arrived: Arrived, recorder: Counter) -> None:
    """Check that what has arrived is what is reported."""
    assert arrived.requests == recorder.answers > 3
    assert len(arrived.ids) == len(set(arrived.ids)) == BATCH * recorder.answers
    assert len(arrived.request_ids) == recorder.answers
    assert len(arrived.times) == BATCH
    result = recorder.result()
    # Of each sender at most one answer comes after the end.
    assert recorder.answers - 3 <= result.requests <= recorder.answers
    assert result.events == BATCH * result.requests


async def test_requests_arrive_as_described_and_are_counted(tmp_path: Path) -> None:
    async with http_peer() as arrived:
        recorder = Counter()
        await make(described(tmp_path, HTTP, arrived.port), recorder)
        check(arrived, recorder)
        assert all(one.startswith("bench-") for one in arrived.request_ids)


@pytest.mark.parametrize("has_reflection", [True, False])
async def test_calls_arrive_as_described_and_are_counted(
    tmp_path: Path, has_reflection: bool
) -> None:
    text = GRPC
    if not has_reflection:
        (tmp_path / "store.binpb").write_bytes(descriptors().SerializeToString())
        text = GRPC.replace("[grpc]", '[grpc]\ndescriptors = "store.binpb"')
    async with grpc_peer(has_reflection=has_reflection) as arrived:
        recorder = Counter()
        await make(described(tmp_path, text, arrived.port), recorder)
        check(arrived, recorder)


async def test_an_answer_that_is_no_success_ends_the_load(tmp_path: Path) -> None:
    async with http_peer() as arrived:
        for replaced, by, reason in (
            ("equals = 7", "equals = 8", r"has 7 at stored\.count, not 8"),
            ("[201]", "[200, 204]", "status 201"),
        ):
            peer = described(tmp_path, HTTP.replace(replaced, by), arrived.port)
            with pytest.raises(LoadError, match=reason):
                await make(peer, Counter())
        arrived.refuses_after = arrived.requests + 5
        with pytest.raises(LoadError, match="the server answered with status 503: no more"):
            await make(described(tmp_path, HTTP, arrived.port), Counter(30.0))


@pytest.mark.parametrize("name", ["ingest-http", "ingest-grpc"])
async def test_the_examples_of_our_own_store_what_is_reported(
    tmp_path: Path, server: Addresses, tenant: Tenant, name: str
) -> None:
    text = (FOLDER / f"{name}.toml").read_text()
    for example, address in (
        ("http://127.0.0.1:8080", server.http),
        ("127.0.0.1:50051", server.grpc),
    ):
        text = text.replace(example, address)
    file = tmp_path / "own.toml"
    file.write_text(text)
    recorder = Counter(2.0)  # of a busy machine, too
    await make(Peer(file, {"WEPEOPLE_API_KEY": tenant.key}), recorder)
    assert await tenant.used() == 500 * recorder.answers > 0


@pytest.mark.parametrize(
    ("replaced", "by", "reason"),
    [
        ("Store/Put", "Store/Take", "nothing describes peer.v1.Store/Take"),
        ("Store/Put", "Other/Put", "reflection does not know peer.v1.Other"),
        ("Store/Put", "Store/PutStream", "is a stream"),
        ("requestId", "colour", "the message is no peer.v1.Put"),
        ('"at": "${time}"', '"at": "${id}"', "the message is no peer.v1.Put"),
    ],
)
async def test_calls_that_cannot_be_made_are_told_of(
    tmp_path: Path, replaced: str, by: str, reason: str
) -> None:
    async with grpc_peer() as arrived:
        peer = described(tmp_path, GRPC.replace(replaced, by), arrived.port)
        with pytest.raises(LoadError, match=reason):
            await make(peer, Counter())
        assert arrived.requests == 0


async def test_a_server_without_reflection_needs_descriptors(tmp_path: Path) -> None:
    async with grpc_peer(has_reflection=False) as arrived:
        with pytest.raises(LoadError, match="no reflection: name a descriptor set"):
            await make(described(tmp_path, GRPC, arrived.port), Counter())


@pytest.mark.parametrize(
    ("replaced", "by", "reason"),
    [
        ("title", "titel", "titel"),
        ("batch = 7", "batch = 0", "batch"),
        ("${env:NAME}", "${env:OTHER}", "${env:OTHER} is not set"),
        ("${index}", "${position}", "${position} is not known here"),
        ('{"rows": [${items}]}', "${index}", "${index} is not known here"),
        ("[http]", "[grpc]", "url"),
        ("http://", "ftp://", "url"),
        ("[success]", "success", "toml"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(
    tmp_path: Path, replaced: str, by: str, reason: str
) -> None:
    with pytest.raises(PeerError) as refused:
        described(tmp_path, HTTP.replace(replaced, by))
    assert str(refused.value).startswith(str(tmp_path / "peer.toml"))
    assert reason in str(refused.value)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_examples_are_descriptions_of_batches(file: Path) -> None:
    peer = Peer(file, {"WEPEOPLE_API_KEY": "wp_live_0"})
    load = peer.load()
    text = load.body if isinstance(load, HttpLoad) else load.message
    assert text.count("crm-user-") == load.batch == 500
    json.loads(text)


async def bench(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """A run of the command, beside servers of this process; its exit status and outputs."""
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("bench", "--rounds", "2", *arguments),
        env={**without_settings(os.environ), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_peers_are_rows_beside_our_own(tmp_path: Path, server: Addresses) -> None:
    async with http_peer() as http, grpc_peer() as grpc:
        described(tmp_path, HTTP, http.port, "one")
        described(tmp_path, GRPC, grpc.port, "other")
        status, out, err = await bench(
            *("--peer", str(tmp_path / "one.toml"), "--peer", str(tmp_path / "other.toml")),
            *("--own", "--server", server.http, "--batch", "50", "--no-yardsticks"),
            *("--seconds", "1", "--json"),
            DATABASE_URL=server.database_url,
            NAME="bench",
        )
    assert (status, err) == (0, "")
    lines: dict[str, Any] = {line["name"]: line for line in json.loads(out)["measurements"]}
    assert list(lines) == ["http", "one", "other"]
    for name, arrived in (("one", http), ("other", grpc)):
        reported = sum(one["requestsPerSecond"] for one in lines[name]["rounds"])
        assert 0 < reported <= arrived.requests
        assert lines[name]["cpu"]["serviceSeconds"] > 0  # of this process
        assert lines[name]["cpu"]["databaseSeconds"] is None
    assert (lines["one"]["yardstick"], lines["other"]["yardstick"]) == (None, "one")


async def test_peers_alone_need_no_service(tmp_path: Path) -> None:
    async with http_peer() as http:
        described(tmp_path, HTTP.replace("batch = 7", "seconds = 0.5\nbatch = 7"), http.port)
        peer = ("--peer", str(tmp_path / "peer.toml"))
        status, out, err = await bench(*peer, NAME="bench")
        assert (status, err) == (0, "")
        assert "FastAPI" in out
        assert "PostgreSQL" not in out
        http.refuses_after = 0
        status, out, err = await bench(*peer, NAME="bench")
    assert (status, out) == (1, "")
    assert "status 503: no more" in err


@pytest.mark.parametrize(
    ("file", "option", "reason"),
    [("none", (), "No such file"), ("postgrest", ("--batch", "9"), "give --own")],
)
def test_wrong_usage_is_told_of(
    monkeypatch: pytest.MonkeyPatch, file: str, option: tuple[str, ...], reason: str
) -> None:
    peer = ("--peer", str(FOLDER / f"{file}.toml"))
    status, out, err = run_here(monkeypatch, "bench", *peer, *option)
    assert (status, out) == (2, "")
    assert reason in err
