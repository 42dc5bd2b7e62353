"""Clients that are generated from the served OpenAPI document compile, and work as they are.

Each pings, sends a batch of which one event is rejected and a snapshot, and reads an error.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.generators.table import steps_done
from tests.generators.tools import (
    CLIENTS,
    GENERATE_SECONDS,
    GO_MODULES,
    JARS,
    NODE_MODULES,
    OAPI_CODEGEN,
    OPENAPI_GENERATOR,
    PYTHON,
    missing,
    openapi_generator,
    run,
)
from tests.support.running_service import Addresses
from tests.support.tenant import make_tenant

# What each client says after it has talked to the service.
EXPECTED = {
    "app": "crm-hub",
    "status": 207,
    "accepted": ["ticket.resolved"],
    "rejected": [[1, "forbidden_event_type"]],
    "worker": "Alex Chen",
    "error": [403, "forbidden_event_type"],
}
METADATA = {"ticket": "SUP-431", "nested": {"list": [1, "two"]}}
METRICS = {
    "open": 16_777_217,  # the first whole number that a 32-bit float has not
    "mood": "steady",
    "csat": {"value": 94.5, "unit": "percentage", "label": "Satisfaction"},
}

Command = Sequence[str | Path]


def _typescript(folder: Path, client: str) -> Command:
    """Compile the client and what was generated beside it, as strictly as can be."""
    shutil.copy(CLIENTS / "typescript" / f"{client}.ts", folder)
    (folder / "node_modules").symlink_to(NODE_MODULES)
    (folder / "package.json").write_text("{}")
    options = ("--strict", "--module", "nodenext", "--target", "es2022", "--outDir", "out")
    compiler = NODE_MODULES / ".bin" / "tsc"
    run(folder, compiler, *options, "--types", "node", f"{client}.ts")
    return ["node", folder / "out" / f"{client}.js"]


def openapi_typescript(folder: Path, document: Path) -> Command:
    """Types for openapi-fetch."""
    run(folder, NODE_MODULES / ".bin" / "openapi-typescript", document, "-o", "api.d.ts")
    return _typescript(folder, "openapi_fetch")


def generator_typescript(folder: Path, document: Path) -> Command:
    """A client on top of ``fetch``."""
    openapi_generator(folder / "ingest", document, "typescript-fetch")
    return _typescript(folder, "typescript_fetch")


def openapi_python_client(folder: Path, document: Path) -> Command:
    """A client on top of httpx."""
    program = PYTHON.parent / "openapi-python-client"
    into = ("--output-path", folder / "ingest")
    run(folder, program, "generate", "--path", document, "--meta", "none", *into)
    shutil.copy(CLIENTS / "python" / "openapi_python_client.py", folder / "main.py")
    return [PYTHON, folder / "main.py"]


def generator_python(folder: Path, document: Path) -> Command:
    """A client on top of urllib3 and pydantic."""
    openapi_generator(folder, document, "python")
    shutil.copy(CLIENTS / "python" / "openapi_generator.py", folder / "main.py")
    return [PYTHON, folder / "main.py"]


def _go(folder: Path, client: str) -> Command:
    sources = CLIENTS / "go"
    for name in ("go.mod", "go.sum"):
        shutil.copy(sources / name, folder)
    shutil.copy(sources / client / "main.go", folder / client)
    run(folder, "go", "build", "-o", "client", f"./{client}")
    return [folder / "client"]


def oapi_codegen(folder: Path, document: Path) -> Command:
    """Types and a client in Go."""
    package = folder / "oapi_codegen" / "ingest"
    package.mkdir(parents=True)
    into = ("-package", "ingest", "-o", package / "ingest.go")
    run(folder, OAPI_CODEGEN, "-generate", "types,client", *into, document)
    return _go(folder, "oapi_codegen")


def generator_go(folder: Path, document: Path) -> Command:
    """Another client in Go."""
    options = ("--additional-properties", "packageName=ingest,withGoMod=false")
    openapi_generator(folder / "openapi_generator" / "ingest", document, "go", *options)
    tests = folder / "openapi_generator" / "ingest" / "test"
    shutil.rmtree(tests)  # of the generator's own, which want another library
    return _go(folder, "openapi_generator")


def generator_java(folder: Path, document: Path) -> Command:
    """A client on top of the JDK's own HTTP client."""
    openapi_generator(folder, document, "java", "--library", "native")
    shutil.copy(CLIENTS / "java" / "Main.java", folder)
    generated = (folder / "src" / "main" / "java").rglob("*.java")
    libraries = str(JARS / "*")
    run(folder, "javac", "-cp", libraries, "-d", "out", "Main.java", *generated)
    return ["java", "-cp", f"{folder / 'out'}:{libraries}", "Main"]


class Generator(NamedTuple):
    """Generates and compiles a client; returns the command that runs it."""

    build: Callable[[Path, Path], Command]
    needs: Sequence[str | Path]


GENERATORS = {
    "openapi-typescript": Generator(openapi_typescript, ["node", NODE_MODULES]),
    "openapi-python-client": Generator(openapi_python_client, [PYTHON]),
    "oapi-codegen": Generator(oapi_codegen, ["go", OAPI_CODEGEN, GO_MODULES]),
    "openapi-generator-python": Generator(generator_python, ["java", OPENAPI_GENERATOR, PYTHON]),
    "openapi-generator-typescript-fetch": Generator(
        generator_typescript, ["java", OPENAPI_GENERATOR, "node", NODE_MODULES]
    ),
    "openapi-generator-go": Generator(generator_go, ["java", OPENAPI_GENERATOR, "go", GO_MODULES]),
    "openapi-generator-java": Generator(generator_java, ["java", "javac", OPENAPI_GENERATOR, JARS]),
}


@pytest.mark.timeout(4 * GENERATE_SECONDS)
@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("path", ["/openapi.json", "/openapi/v1.yaml"], ids=["json", "yaml"])
def test_a_generated_client_works(
    server: Addresses,
    tmp_path: Path,
    name: str,
    path: str,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("generator", f"{name}, {path}")
    generator = GENERATORS[name]
    if absent := missing(generator.needs):
        pytest.skip(f"NO CLIENT OF {name.upper()} WAS TRIED: {', '.join(absent)} not installed")
    tenant = asyncio.run(make_tenant(server.database_url))
    document = tmp_path / Path(path).name
    document.write_bytes(httpx.get(server.http + path).raise_for_status().content)
    folder = tmp_path / "client"
    folder.mkdir()

    command = generator.build(folder, document)
    record_property("steps", ["compiles"])
    said = json.loads(run(folder, *command, BASE_URL=server.http, KEY=tenant.key))
    record_property("steps", steps_done(said, EXPECTED))

    assert said == EXPECTED
    (stored,) = asyncio.run(tenant.events())
    assert json.loads(stored["metadata"]) == METADATA
    assert stored["duration_seconds"] == 240
    (card,) = asyncio.run(tenant.cards())
    assert json.loads(card["metrics"]) == METRICS
