"""TLS of a producer: failures that are final, failures that pass, and files."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.client.stream.scripted_server import ScriptedServer, status
from tests.support.certificates import Certificates, needs_openssl
from tests.support.tenant import event
from tests.support.waiting import eventually
from wepeople_ingest_client.stream import ProducerError, StreamProducer, Tls, sender

pytestmark = [pytest.mark.anyio, needs_openssl]

SECONDS = 20  # far below the time that a producer would go on trying: for ever


@contextlib.asynccontextmanager
async def serving(
    certificates: Certificates, name: str | None, scripted: ScriptedServer, *, mutual: bool = False
) -> AsyncIterator[str]:
    """A server with a certificate, or in plaintext; yields its address."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((scripted.handler(),))
    if name is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        credentials = grpc.ssl_server_credentials(
            [(certificates.read(f"{name}.key"), certificates.read(f"{name}.pem"))],
            root_certificates=certificates.read("authority.pem") if mutual else None,
            require_client_auth=mutual,
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def tls_of(certificates: Certificates, client: str | None, ca: str = "authority") -> Tls:
    if client is None:
        return Tls(certificates[f"{ca}.pem"])
    pair = (certificates[f"{client}.pem"], certificates[f"{client}.key"])
    return Tls(certificates[f"{ca}.pem"], *pair)


async def send_one(target: str, tls: Tls | None) -> None:
    async with asyncio.timeout(SECONDS), StreamProducer(target, "key", "me", tls=tls) as producer:
        await producer.send(event())


@pytest.mark.parametrize(
    ("server", "ca", "reason"),
    [
        ("server", "stranger-authority", "is not trusted: unable to get local issuer certificate"),
        ("expired", "authority", "is not trusted: certificate has expired"),
        ("elsewhere", "authority", "is for another host name"),
        (None, "authority", "the server does not speak TLS"),
        ("server", None, "the server speaks TLS and this client does not"),
    ],
)
async def test_a_server_that_cannot_be_trusted_ends_the_producer_with_the_reason(
    certificates: Certificates, server: str | None, ca: str | None, reason: str
) -> None:
    tls = None if ca is None else tls_of(certificates, None, ca)
    async with serving(certificates, server, ScriptedServer([])) as target:
        with pytest.raises(ProducerError, match=reason) as caught:
            await send_one(target, tls)
    assert caught.value.reason == "TLS_FAILED"


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (None, "the server wants a certificate of the client"),
        ("stranger", "the server does not accept the client's certificate"),
        ("expired", "the server does not accept the client's certificate"),
    ],
)
async def test_a_client_that_is_refused_ends_with_the_reason(
    certificates: Certificates, client: str | None, reason: str
) -> None:
    async with serving(certificates, "server", ScriptedServer([]), mutual=True) as target:
        with pytest.raises(ProducerError, match=reason) as caught:
            await send_one(target, tls_of(certificates, client))
    assert caught.value.reason == "TLS_FAILED"


@pytest.mark.parametrize("mutual", [False, True])
async def test_a_producer_with_a_certificate_is_served(
    certificates: Certificates, mutual: bool
) -> None:
    scripted = ScriptedServer([])
    async with serving(certificates, "server", scripted, mutual=mutual) as target:
        await send_one(target, tls_of(certificates, "client"))
    assert scripted.batches == [1]


def openssl_context(certificates: Certificates) -> ssl.SSLContext:
    """A server's side of TLS that, other than the gRPC library, says goodbye."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server.pem"], certificates["server.key"])
    context.set_alpn_protocols(["h2"])
    return context


@contextlib.asynccontextmanager
async def closing(context: ssl.SSLContext | None, read_bytes: int) -> AsyncIterator[str]:
    """A server that reads so much, then ends the connection; yields its address."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(read_bytes)
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as listener:
        yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("behaviour", "encrypted"),
    [
        ("closes", True),
        ("closes", False),
        ("reads and closes", True),
        ("reads and closes", False),
        ("shakes hands and closes", True),  # as a proxy for TLS whose server is away
    ],
)
async def test_a_server_that_only_ends_connections_is_tried_again(
    certificates: Certificates, behaviour: str, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "OPEN_SECONDS", 1)
    shakes = behaviour == "shakes hands and closes"
    context = openssl_context(certificates) if shakes else None
    tls = tls_of(certificates, "client") if encrypted else None
    async with closing(context, int(behaviour == "reads and closes")) as target:
        producer = StreamProducer(target, "key", "me", tls=tls, give_up_after_seconds=0.5)
        with pytest.raises(ProducerError, match=r"given up after 0\.5 s") as caught:
            await producer.start()
    assert not caught.value.reason


async def test_a_proxy_that_refuses_the_client_ends_it_with_the_reason(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "OPEN_SECONDS", 1)
    context = openssl_context(certificates)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates["authority.pem"])
    async with closing(context, 1) as target:
        with pytest.raises(ProducerError, match="the server wants a certificate of the client"):
            await send_one(target, tls_of(certificates, None))


async def test_renewed_files_are_used_and_half_written_ones_are_waited_for(
    certificates: Certificates, tmp_path: Path
) -> None:
    pair = tmp_path / "client.pem", tmp_path / "client.key"
    for path in pair:
        path.write_bytes(certificates.read(path.name))
    scripted = ScriptedServer([status("UNAVAILABLE")])
    async with serving(certificates, "server", scripted, mutual=True) as target:
        tls = Tls(certificates["authority.pem"], *pair)
        async with asyncio.timeout(SECONDS), StreamProducer(target, "key", "me", tls=tls) as one:
            pair[1].write_bytes(certificates.read("stranger.key"))  # of another certificate yet
            await one.send(event())
            failed = lambda: one._sender._reconnect._failed_attempts >= 3  # noqa: E731
            await eventually(failed, "the key does not fit the certificate", seconds=SECONDS)
            pair[1].write_bytes(certificates.read("client.key"))
    assert scripted.batches == [1]


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
@pytest.mark.parametrize("name", ["ca", "certificate", "key", "another key"])
async def test_unusable_files_are_a_clear_error(
    certificates: Certificates, tmp_path: Path, name: str, content: bytes | None
) -> None:
    wrong = tmp_path / "wrong.pem"
    if name == "another key":
        wrong, name = certificates["stranger.key"], "key"
    elif content is not None:
        wrong.write_bytes(content)
    files = {
        "ca": certificates["authority.pem"],
        "certificate": certificates["client.pem"],
        "key": certificates["client.key"],
        name: wrong,
    }
    with pytest.raises(OSError, match=f"cannot use .*{wrong}"):
        await send_one("127.0.0.1:1", Tls(**files))


def test_a_certificate_needs_its_key(certificates: Certificates) -> None:
    with pytest.raises(ValueError, match="together"):
        Tls(certificate=certificates["client.pem"])
