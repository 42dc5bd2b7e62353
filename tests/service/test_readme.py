"""The commands of the README and of the pages it leads to, run as they stand there.

Only what differs between machines is replaced: the two ports, the path of the command line and the
key, which `make run` prints.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from service.settings import Settings

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/first-requests.md", "docs/running.md")
BIN: Final = Path(sys.executable).parent
COMMAND_SECONDS: Final = 60

REFUSED: Final = "forbidden_event_type"
# Something that the output of the block that starts so must have; the first that fits counts.
_CURL: Final = "curl -s http://127.0.0.1:8080/api/v1/ingest"
_REFUSED_CURL: Final = (
    f'{_CURL}/events -H "Authorization: Bearer $KEY" \\\n  -H "Content-Type: application/json" -d'
)
_GRPCURL: Final = 'grpcurl -plaintext -emit-defaults -H "authorization: Bearer $KEY"'
EXPECTED: Final = {
    f"{_CURL}/ping": '"slug":"crm-hub"',
    _REFUSED_CURL: REFUSED,
    f"{_CURL}/events": '"accepted":1,"rejected":0',
    f"{_CURL}/snapshots": '"snapshotType":"tickets_open"',
    ".venv/bin/wepeople-ingest events": "ticket.resolved",
    "grpcurl -plaintext -emit-defaults 127.0.0.1:50051 list": "rpc StreamEvents",
    f"{_GRPCURL} \\\n  127": '"slug": "crm-hub"',
    f"{_GRPCURL} \\\n  -d '{{": '"ticket.resolved"',
    ".venv/bin/buf curl": '"eventType": "ticket.created"',
    f"{_GRPCURL} -d @": '"sequence": "2"',
    'echo \'{"eventType"': "accepted",
    ".venv/bin/wepeople-ingest --help": "WEPEOPLE_HTTP",
    ".venv/bin/wepeople-ingest org create": "wp_live_",
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `make run` starts, on free ports and in a folder of its own."""
    folder = tmp_path_factory.mktemp("readme")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
        "WEPEOPLE_DATA_DIR": str(folder / "data"),
        "PATH": f"{ROOT / '.venv' / 'tools'}:{os.environ['PATH']}",
    }
    serve = [str(BIN / "wepeople-ingest"), "serve", "--demo", "--json"]
    serve += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield {**ready, "environment": environment, "folder": folder}
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def _blocks(page: str) -> list[str]:
    """The commands of a page, block by block, without those that a person fills in."""
    found = re.findall(r"^( *)```sh\n(.*?)^ *```", _read(page), re.DOTALL | re.MULTILINE)
    blocks = [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]
    return [block for block in blocks if not block.startswith("KEY=")]


def _read(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_as_they_stand_one_after_the_other(
    page: str, demo: dict[str, Any]
) -> None:
    blocks = _blocks(page)
    assert blocks
    for block in blocks:
        if "grpcurl" in block and not shutil.which("grpcurl", path=demo["environment"]["PATH"]):
            print("skipped: grpcurl is not on this machine")
        else:
            _run(block, demo)


def _run(block: str, demo: dict[str, Any]) -> None:
    script = (
        block.replace("127.0.0.1:8080", demo["http"].removeprefix("http://"))
        .replace("127.0.0.1:50051", demo["grpc"])
        .replace(".venv/bin/", f"{BIN}/")
    )
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        env={**demo["environment"], "KEY": demo["demoKey"]},
        cwd=demo["folder"],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, (block, done.stderr)
    expected = [text for start, text in EXPECTED.items() if block.startswith(start)]
    assert expected, f"say in EXPECTED what this block must print: {block}"
    assert expected[0] in done.stdout + done.stderr, block
    assert ('"error"' in done.stdout) == (expected[0] == REFUSED)


def test_the_table_of_settings_is_complete() -> None:
    named = set(
        re.findall(r"`((?:WEPEOPLE|DATABASE|OTEL)_[A-Z_]+|…_KEY)`", _read("docs/running.md"))
    )
    if "…_KEY" in named:
        named = (named - {"…_KEY"}) | {"WEPEOPLE_GRPC_TLS_KEY"}
    assert {str(field.alias) for field in Settings.model_fields.values()} <= named
