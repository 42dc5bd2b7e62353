"""The generators of clients that `.ci/run` installs beside the tests' own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

TOOLS: Final = Path(sys.prefix) / "tools"
CLIENTS: Final = Path(__file__).parent / "clients"
GENERATE_SECONDS: Final = 300  # also compiles, on a busy machine

NODE_MODULES: Final = TOOLS / "node_modules"
PYTHON: Final = TOOLS / "python" / "bin" / "python"
OAPI_CODEGEN: Final = TOOLS / "oapi-codegen"
GO_MODULES: Final = TOOLS / "go-modules"
OPENAPI_GENERATOR: Final = TOOLS / "openapi-generator-cli.jar"
JARS: Final = TOOLS / "jars"


def missing(tools: Sequence[str | Path]) -> list[str]:
    """Return the tools that are not here: programs by their name, what `.ci/run` brings by path."""
    return [
        Path(tool).name
        for tool in tools
        if not (tool.exists() if isinstance(tool, Path) else shutil.which(tool))
    ]


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    """Run a command in a folder and return its output. Fails with all it said, if it fails."""
    environment = {
        **os.environ,
        # What a client needs was installed with the generators.
        "GOMODCACHE": str(GO_MODULES),
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOPROXY": "off",
        **variables,
    }
    done = subprocess.run(
        [os.fspath(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=GENERATE_SECONDS,
    )
    assert done.returncode == 0, f"{command[0]}:\n{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout


def openapi_generator(folder: Path, document: Path, language: str, *options: str) -> None:
    """Generate a client of that language into a folder."""
    generate = ("-jar", OPENAPI_GENERATOR, "generate", "-g", language, "-i", document)
    run(document.parent, "java", "-Dlog.level=error", *generate, "-o", folder, *options)
