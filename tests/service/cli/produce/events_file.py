"""Files of events for ``wepeople-ingest produce``, and runs of the command on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event


class ProduceResult(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)


Produce = Callable[..., ProduceResult]


def produce_command(server: Addresses, *arguments: object) -> list[str]:
    program = [sys.executable, "-m", "service.cli", "produce", "--server", server.grpc]
    return [*program, *map(str, arguments)]


@contextlib.contextmanager
def produce_process(
    server: Addresses, tenant: Tenant, *arguments: object, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """The command as a process of its own, which does not outlive the block."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "WEPEOPLE_API_KEY": tenant.key}
    with subprocess.Popen(
        produce_command(server, *arguments), text=True, env=environment, **pipes
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def write(path: Path, lines: Sequence[str | bytes | dict[str, Any]]) -> Path:
    with path.open("wb") as file:
        for line in lines:
            text = json.dumps(line) if isinstance(line, dict) else line
            file.write(text.encode() if isinstance(text, str) else text)
            file.write(b"\n")
    return path


def numbered(count: int) -> list[dict[str, Any]]:
    return [event(metadata={"n": n}) for n in range(count)]


def stored_numbers(tenant: Tenant) -> Counter[int]:
    return Counter(json.loads(row["metadata"])["n"] for row in asyncio.run(tenant.events()))


BAD: dict[int, tuple[str | bytes, str, str]] = {
    2: ("no json", "invalid_body", "is not JSON: invalid character"),
    3: ("[1]", "invalid_body", "must be an object"),
    5: (json.dumps(event(duration="x")), "invalid_body", "duration: must be an integer"),
    6: (json.dumps(event(timestamp="soon")), "invalid_body", "timestamp: must be an RFC 3339"),
    8: (json.dumps(event(duration=86_401)), "invalid_body", "duration: must be at most 86400"),
    9: (json.dumps(event(actor={})), "missing_actor", "actor: must have"),
    10: (json.dumps(event(eventType="a.b")), "forbidden_event_type", "eventType: 'a.b' is not"),
    12: (b'{"eventType": "\xff"}', "invalid_body", "must be UTF-8"),
}


def with_bad_lines() -> list[str | bytes | dict[str, Any]]:
    """Fifteen lines; a batch of two has none that can be sent."""
    good = iter(numbered(100))
    return [BAD[number][0] if number in BAD else next(good) for number in range(1, 16)]
