"""Names in the shell, asked for as the scripts of bash, zsh and fish do it."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.cli.command import Run
from tests.support.service_process import PROJECT, without_settings

Words = tuple[str, ...]

BASH = shutil.which("bash")
END = "=== end ==="  # of what is offered for a command line
SPACED = "Acme Corp"
ODD = 'O\'Brien "& Sons" $1 `x` \\ (é)'
PROGRAM = "import sys; sys.argv[0] = 'wepeople-ingest'; from service.cli.entry import main; main()"
# Longer than the program takes to start beside a busy machine; a database may take longer.
PATIENCE_SECONDS = 20.0


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The folder of the program, by its own name."""
    file = tmp_path / "bin" / "wepeople-ingest"
    file.parent.mkdir()
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(PROGRAM)} "$@"\n')
    file.chmod(0o700)
    return file.parent


def environment(program: Path, **settings: str) -> dict[str, str]:
    return {
        **without_settings(os.environ),
        "PATH": f"{program}:/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join((os.fspath(PROJECT), os.fspath(PROJECT / "client"))),
        **settings,
    }


def asked(program: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program / "wepeople-ingest"],
        env=environment(program, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def in_bash(program: Path, database_url: str, *lines: Words) -> list[list[str]]:
    """The last word of each command line as it is after Tab, in each way that is offered.

    Bash takes the words over as they are, so they are read here as it reads a command line.
    """
    asking = "".join(
        f"""
        COMP_WORDS=(wepeople-ingest {" ".join(map(shlex.quote, words))})
        COMP_CWORD={len(words)}
        _wepeople_ingest_completion wepeople-ingest
        printf '%s\\n' "${{COMPREPLY[@]}}" "{END}"
        """
        for words in lines
    )
    done = subprocess.run(
        [BASH or "", "-c", f"set -e\nsource <(wepeople-ingest --show-completion bash)\n{asking}"],
        env=environment(
            program,
            DATABASE_URL=database_url,
            _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *offered, rest = done.stdout.split(f"{END}\n")
    assert (len(offered), rest) == (len(lines), "")
    return [as_read(words, text) for words, text in zip(lines, offered, strict=True)]


def as_read(words: Words, offered: str) -> list[str]:
    """What is offered for the last word, as bash reads it."""
    quote = words[-1][:1] if words[-1][:1] in ("'", '"') else ""
    lines = [f"{quote}{line}{quote}" for line in offered.splitlines() if line]
    read = [
        BASH or "",
        "-c",
        'for one in "$@"; do eval "printf \'%s\\n\' $one"; done',
        "bash",
        *lines,
    ]
    return subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def named(run: Run, acme: str) -> dict[str, Any]:
    """Organizations and apps with names of all kinds, and a key."""
    for name in (SPACED, ODD):
        assert run("org", "create", name).code == 0
        assert run("app", "create", name, "shop", "--name", "Shop").code == 0
    [key] = run("key", "list", "--json").json()
    return {"id": key["id"], "key": acme}


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_names_complete_in_bash(program: Path, database_url: str, named: dict[str, Any]) -> None:
    expected: dict[Words, list[str]] = {
        ("org", "show", "Ac"): ["Acme", SPACED],
        ("org", "show", "Acme\\ "): [SPACED],
        **{("usage", begun): [ODD] for begun in ("O", '"O', "'O")},
        ("app", "allow", "cr"): ["crm-hub"],
        ("key", "create", "sh"): [],  # several organizations have it
        ("key", "create", "Acme\\ Corp/"): [f"{SPACED}/shop"],
        ("key", "list", "Acme/"): ["Acme/crm-hub"],
        ("rejections", "Acme", "--app", ""): ["crm-hub", "shop"],
        ("key", "revoke", "key_"): [named["id"]],
        ("key", "revoke", named["key"][:12]): [],  # no key is known
        ("key", "rot"): ["rotate", "rotate-secret"],
    }
    completed = in_bash(program, database_url, *expected)
    assert dict(zip(expected, completed, strict=True)) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_names_complete_in_other_shells(
    program: Path, database_url: str, named: dict[str, Any], shell: str
) -> None:
    def offered(line: str) -> str:
        variables = {
            "DATABASE_URL": database_url,
            "_WEPEOPLE_INGEST_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": f"wepeople-ingest {line}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        done = asked(program, variables)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert SPACED in offered("org show Ac")
    assert offered("usage O") == ("_files\n" if shell == "zsh" else f"{ODD}\n")
    keys = offered("key show key_")
    assert named["id"] in keys
    assert f"…{named['key'][-4:]} Acme/crm-hub" in keys
    assert named["key"] not in keys


def test_a_failure_offers_nothing_in_time(program: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        hanging = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"
        for settings in (
            {"DATABASE_URL": hanging},
            {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"},
            {"DATABASE_URL": "no connection string"},
            {"WEPEOPLE_NO_SUCH_SETTING": "1"},
            {"WEPEOPLE_DATA_DIR": os.fspath(data_dir)},
        ):
            variables = {
                "_WEPEOPLE_INGEST_COMPLETE": "complete_bash",
                "COMP_WORDS": "wepeople-ingest\norg\nshow\nA",
                "COMP_CWORD": "3",
                **settings,
            }
            done = asked(program, variables)
            assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", ""), settings
    assert not data_dir.exists()
