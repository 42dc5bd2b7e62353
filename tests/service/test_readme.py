"""The README's own commands, run as they stand there, so that they cannot rot.

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
README: Final = (ROOT / "README.md").read_text("utf-8")
BLOCKS: Final = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
BIN: Final = Path(sys.executable).parent
COMMAND_SECONDS: Final = 60

# Something that the output of the block that starts so must have.
_CURL: Final = "curl -s http://127.0.0.1:8080/api/v1/ingest"
_GRPCURL: Final = 'grpcurl -plaintext -emit-defaults -H "authorization: Bearer $KEY"'
EXPECTED: Final = {
    f"{_CURL}/ping": '"slug":"crm-hub"',
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


def _first_words(block: str) -> str:
    return block.split("\n", 1)[0][:70]


COMMANDS: Final = [block for block in BLOCKS if not block.startswith("KEY=")]


@pytest.mark.parametrize("block", COMMANDS, ids=_first_words)
def test_a_block_of_commands_works_as_it_stands(block: str, demo: dict[str, Any]) -> None:
    if "grpcurl" in block and not shutil.which("grpcurl", path=demo["environment"]["PATH"]):
        pytest.skip("grpcurl is not on this machine")
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
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout
    expected = [text for start, text in EXPECTED.items() if block.startswith(start)]
    assert expected, "say in EXPECTED what this block must print"
    for text in expected:
        assert text in done.stdout + done.stderr


def test_the_table_of_settings_is_complete() -> None:
    named = set(re.findall(r"`((?:WEPEOPLE|DATABASE|OTEL)_[A-Z_]+|…_KEY)`", README))
    if "…_KEY" in named:
        named = (named - {"…_KEY"}) | {"WEPEOPLE_GRPC_TLS_KEY"}
    assert {str(field.alias) for field in Settings.model_fields.values()} <= named
