"""``wepeople-ingest serve``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.service.cli.command import (
    WAIT_SECONDS,
    Run,
    process,
    served,
)
from tests.support.service_process import without_settings
from tests.support.two_cells import copied_database


def test_serve_with_demo_prints_lines_that_work_when_pasted(environment: None) -> None:
    addresses = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    with process("serve", "--demo", *addresses) as server:
        assert server.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = server.stdout.readline()
            assert line, server.communicate()[1]
            said += line
        (overview,) = re.findall(r"^  docs  (http://.*)$", said, re.MULTILINE)
        assert httpx.get(overview).is_success
        (link,) = re.findall(r"^  (http://.*/console/sign-in\?link=.*)$", said, re.MULTILINE)
        assert "This link signs you in once" in httpx.get(link).text
        pasted = re.findall(r"^  (curl (?:.*\\\n)*.*)$", said, re.MULTILINE)
        assert len(pasted) == 3
        for text in pasted:
            done = subprocess.run(
                ["/bin/sh", "-c", text], capture_output=True, text=True, check=True, timeout=30
            )
            assert "error" not in json.loads(done.stdout)
        server.send_signal(signal.SIGINT)
        assert server.wait(WAIT_SECONDS) == 0
    # The key is stored nowhere, so on this database it cannot be shown a second time.
    with process("serve", "--demo", *addresses) as server:
        assert server.stdout is not None
        said = "".join(iter(server.stdout.readline, "Ctrl-C stops it.\n"))
        assert "key create Demo/crm-hub" in said
        assert "wp_live_" not in said
        (another,) = re.findall(r"^  (http://.*/console/sign-in\?link=.*)$", said, re.MULTILINE)
        assert another != link
        assert "wp_ops_" not in said


@pytest.fixture(scope="module", params=["1", "2"])
def demo(
    request: pytest.FixtureRequest, postgres: str, template_database: str
) -> Iterator[dict[str, Any]]:
    """The ready line of ``serve --demo``, of one server process or two."""
    with (
        pytest.MonkeyPatch.context() as patch,
        copied_database(postgres, f"wepeople_serve_{os.getpid()}", template_database) as url,
    ):
        for name in without_settings(os.environ).keys() ^ os.environ.keys():
            patch.delenv(name)
        patch.setenv("DATABASE_URL", url)
        with served("--demo", "--workers", request.param) as (ready, server):
            yield ready
            server.send_signal(signal.SIGINT)
            assert server.wait(WAIT_SECONDS) == 0


def test_the_demos_link_leads_into_the_console_once(demo: dict[str, Any]) -> None:
    link = httpx.URL(demo["console"])
    sign_in = f"{demo['http']}/console/sign-in"
    assert str(link.copy_with(query=None)) == sign_in
    with httpx.Client() as client:
        answer = client.post(sign_in, data=dict(link.params), follow_redirects=True)
        assert "<h1>Demo</h1>" in answer.text
        assert client.post(sign_in, data=dict(link.params)).status_code == 401


def test_the_overview_shows_the_demos_key_here_whatever_process_answers(
    demo: dict[str, Any],
) -> None:
    for _ in range(4):  # each on a connection of its own
        page = re.sub("<[^>]*>", "", httpx.get(f"{demo['http']}/developers").text)
        assert demo["demoKey"] in page
        assert demo["grpc"] in page


@pytest.mark.parametrize(
    ("host", "public_url", "is_told"),
    [
        ("127.0.0.1", None, False),
        ("0.0.0.0", None, True),  # noqa: S104 - the address is what the test is about
        ("0.0.0.0", "https://ingest.example", False),  # noqa: S104
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_serve_says_where_links_lead_that_other_machines_cannot_follow(
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    public_url: str | None,
    is_told: bool,
    as_json: bool,
) -> None:
    if public_url is not None:
        monkeypatch.setenv("WEPEOPLE_PUBLIC_URL", public_url)
    addresses = ("--http", f"{host}:0", "--grpc", "127.0.0.1:0")
    with process("serve", *addresses, *(("--json",) if as_json else ())) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        while not as_json and "Ctrl-C" not in said:
            said += server.stdout.readline()
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=WAIT_SECONDS)
    (port,) = {*re.findall(r"http://127\.0\.0\.1:(\d+)", said.partition("Links")[0])}
    told = log if as_json else said
    assert (f"lead to http://127.0.0.1:{port}," in told) is is_told
    assert ("WEPEOPLE_PUBLIC_URL" in told) is is_told


def test_a_taken_port_is_named(environment: None) -> None:
    with served() as (ready, _):
        address = ready["http"].removeprefix("http://")
        with process("serve", "--http", address, "--grpc", "127.0.0.1:0") as second:
            out, err = second.communicate(timeout=WAIT_SECONDS)
    assert (second.returncode, out) == (1, "")
    assert address in err.splitlines()[-1]
    assert "Traceback" not in err


def test_migrate_lists_whose_e_mail_loses_its_match(run: Run, acme: str, database_url: str) -> None:
    made = [
        run("worker", "create", "Acme", "--name", name, "--email", f"{name}@a.example", "--json")
        for name in ("Straße", "Other")
    ]
    older, younger = (one.json()["id"] for one in made)
    with psycopg.connect(database_url) as db:  # as the release before has left it
        db.execute(
            "UPDATE workers SET email = lower(email), email_key = 'straße@a.example'"
            " WHERE display_name = 'Straße'"
        )
        db.execute(
            "UPDATE workers SET email = 'STRASSE@a.example',"
            " email_key = 'strasse@a.example' WHERE display_name = 'Other'"
        )
        db.execute("DELETE FROM schema_migrations WHERE version = 5")
    answer = run("migrate", "--json").json()
    assert answer["applied"][0] == "0005_email_keys.sql"
    (line,) = answer["notes"]
    assert line.startswith(f"worker {younger} of org_")
    assert older in line


def test_serve_help_shows_every_setting(run: Run) -> None:
    from service.settings import settings_help

    text = run("serve", "--help").out
    for variable, _, _ in settings_help():
        assert variable in text
