"""Examples made to run: compiled where their language needs it, and never changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.generators.tools import GENERATE_SECONDS, NODE_MODULES, TOOLS

Command = Sequence[str | Path]
RUN_SECONDS: Final = 60
GRPCURL: Final = TOOLS / "grpcurl"


def _shell(folder: Path, codes: Sequence[str]) -> list[Command]:
    return [["bash", "-euo", "pipefail", "-c", code] for code in codes]


def _python(folder: Path, codes: Sequence[str]) -> list[Command]:
    files = [folder / f"example_{number}.py" for number in range(len(codes))]
    for file, code in zip(files, codes, strict=True):
        file.write_text(code + "\n")
    return [[sys.executable, file] for file in files]


def _typescript(folder: Path, codes: Sequence[str]) -> list[Command]:
    names = [f"example_{number}" for number in range(len(codes))]
    for name, code in zip(names, codes, strict=True):
        (folder / f"{name}.mts").write_text(code + "\n")
    (folder / "node_modules").symlink_to(NODE_MODULES)
    # The examples are checked, and not the declarations of Node.js: that takes twice as long.
    options = ("--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")
    sources = [f"{name}.mts" for name in names]
    compiler = NODE_MODULES / ".bin" / "tsc"
    finish(
        folder,
        [compiler, *options, "--types", "node", "--outDir", "out", *sources],
        seconds=GENERATE_SECONDS,
    )
    return [["node", folder / "out" / f"{name}.mjs"] for name in names]


def _go(folder: Path, codes: Sequence[str]) -> list[Command]:
    names = [f"example{number}" for number in range(len(codes))]
    (folder / "go.mod").write_text("module examples\n\ngo 1.24\n")
    for name, code in zip(names, codes, strict=True):
        (folder / name).mkdir()
        (folder / name / "main.go").write_text(code + "\n")
    (folder / "bin").mkdir()
    build = ["go", "build", "-o", "bin/", "./..."]
    finish(folder, build, {"GOTOOLCHAIN": "local", "GOPROXY": "off"}, GENERATE_SECONDS)
    unformatted = finish(folder, ["gofmt", "-l", "."])
    assert unformatted == "", f"not as gofmt has it: {unformatted}"
    return [[folder / "bin" / name] for name in names]


class Language(NamedTuple):
    """Makes commands of examples; needs the programs that are named, or are at a path."""

    commands: Callable[[Path, Sequence[str]], list[Command]]
    needs: Sequence[str | Path] = ()


# By the label of the tab.
LANGUAGES: Final = {
    "Shell": Language(_shell),
    "curl": Language(_shell, ["curl"]),
    "Python": Language(_python),
    "TypeScript": Language(_typescript, ["node", NODE_MODULES]),
    "Go": Language(_go, ["go"]),
    "grpcurl": Language(_shell, [GRPCURL]),
}


def finish(
    folder: Path,
    command: Command,
    variables: Mapping[str, str] | None = None,
    seconds: float = RUN_SECONDS,
) -> str:
    """Run a command to its end in a folder and return its output; fails if it does."""
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(
        [os.fspath(part) for part in command],
        cwd=folder,
        env=environment | {"PATH": f"{TOOLS}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout
