"""Every example of every page, run as a reader copies it from the page of a running service."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import psycopg
import pytest

from core.error_codes import REFERENCE_PATH
from http_api.docs.frame import PAGES
from http_api.paths import GUIDE_PATH, OVERVIEW_PATH
from service.demo import EVENT_TYPES
from tests.generators.tools import GENERATE_SECONDS, missing
from tests.http_api.docs.page_examples import PageExample, page_examples
from tests.http_api.docs.programs import LANGUAGES, Command, finish
from tests.support.service_process import ServiceProcess, service_on
from tests.support.tenant import Tenant, make_tenant
from tests.support.two_cells import copied_database

EXPORT: Final = "export WEPEOPLE_API_KEY="
PAGE_PATHS: Final = (OVERVIEW_PATH, GUIDE_PATH, REFERENCE_PATH)


class Effect(NamedTuple):
    """What an example leaves behind, however often it is run; ``said`` is in its output."""

    events: int = 0
    cards: int = 0
    said: str = ""
    is_repeatable: bool = False  # what it sends twice is stored once


# By something that the example's code has, and no other's.
EFFECTS: Final = {
    EXPORT: Effect(),
    "ngest/ping": Effect(said="org_"),
    "IngestService/Ping": Effect(said="org_"),
    "SUP-431": Effect(events=1, said="ticket.resolved"),
    "Sam Okoye": Effect(events=2, said="deal.won"),
    "90000": Effect(events=1, said="invalid_body"),
    "help-desk-8412": Effect(events=1, said="ticket.created", is_repeatable=True),
    "call.finished": Effect(events=2, said="call.finished"),
    "crm-batch-8412": Effect(events=2, said="call.finished", is_repeatable=True),
    "support.desk": Effect(cards=1, said="wrk_"),
    "one for all attempts": Effect(events=1, said="ticket.resolved"),
    "gzip -c": Effect(events=2, said="call.finished"),
    "range(1200)": Effect(events=1200, said="200 stored, 0 rejected"),
    "-proto-out-dir": Effect(said="rpc StreamEvents"),
    "pip install": Effect(said="Successfully installed wepeople-ingest-client"),
    "ingest_snapshot(": Effect(events=1, cards=1, said="1 stored"),
    "call-log-1": Effect(events=1000, said="going on after", is_repeatable=True),
    "help-desk-1": Effect(events=2, said='"sequence": "2"', is_repeatable=True),
}


def effect_of(code: str) -> Effect:
    """The one effect that is the example's, whatever else of the list its code has."""
    found = [effect for snippet, effect in EFFECTS.items() if snippet in code]
    assert found, f"say in EFFECTS what this example does:\n{code}"
    return found[-1]


@pytest.fixture(scope="module")
def demo(postgres: str, template_database: str) -> Iterator[ServiceProcess]:
    """``serve --demo``, on a database of its own."""
    with (
        copied_database(postgres, f"wepeople_examples_{os.getpid()}", template_database) as url,
        service_on(url, demo=True) as service,
    ):
        yield service


def examples_of(demo: ServiceProcess, path: str, label: str) -> list[PageExample]:
    """The examples in one language, from the page that the service shows."""
    page = httpx.get(demo.url + path, headers={"accept": "text/html"}).raise_for_status()
    return [one for one in page_examples(page.text) if one.label == label]


def skip_without(label: str) -> None:
    """Skip what needs a tool that is not here."""
    if absent := missing(LANGUAGES[label].needs):
        pytest.skip(f"NO EXAMPLE IN {label.upper()} WAS TRIED: {', '.join(absent)} not installed")


def new_app(demo: ServiceProcess) -> Tenant:
    """An app like that of the demo, which nothing was sent for."""
    return asyncio.run(make_tenant(demo.addresses.database_url, event_types=EVENT_TYPES))


@pytest.fixture(scope="module")
def client_folder(demo: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guide's own command has put the Python client."""
    (install,) = (
        one for one in examples_of(demo, GUIDE_PATH, "Shell") if one.code.startswith("pip install")
    )
    folder = tmp_path_factory.mktemp("client")
    (command,) = LANGUAGES["Shell"].commands(folder, [install.code])
    finish(folder, command, into(folder))
    return folder


CommandsOf = Callable[[str], Mapping[str, Command]]


@pytest.fixture(scope="module")
def commands_of(demo: ServiceProcess, tmp_path_factory: pytest.TempPathFactory) -> CommandsOf:
    """The command of each example in a language, by its code; a compiler starts once for all."""

    @cache
    def commands(label: str) -> Mapping[str, Command]:
        found = (one.code for path in PAGE_PATHS for one in examples_of(demo, path, label))
        codes = list(dict.fromkeys(found))
        made = LANGUAGES[label].commands(tmp_path_factory.mktemp("examples"), codes)
        return dict(zip(codes, made, strict=True))

    return commands


def into(folder: Path) -> dict[str, str]:
    """Variables that have pip install into a folder, and have Python look there first.

    What a package needs is not installed: it is in the environment of the tests.
    """
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PIP_TARGET": str(folder),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(folder),
    }


@pytest.mark.timeout(2 * GENERATE_SECONDS)
@pytest.mark.parametrize("label", LANGUAGES)
@pytest.mark.parametrize("path", PAGE_PATHS)
def test_every_example_works_as_it_stands(
    demo: ServiceProcess,
    commands_of: CommandsOf,
    client_folder: Path,
    tmp_path: Path,
    path: str,
    label: str,
) -> None:
    skip_without(label)
    where = into(client_folder if label == "Python" else tmp_path / "installed")
    for example in examples_of(demo, path, label):
        command = commands_of(label)[example.code]
        app, effect = new_app(demo), effect_of(example.code)
        for _ in range(2 if effect.is_repeatable else 1):
            said = finish(tmp_path, command, {"WEPEOPLE_API_KEY": app.key, **where})
            assert effect.said in said, f"{path}#{example.section}:\n{said}"
            assert '"error"' not in said
        events, cards = asyncio.run(app.events()), asyncio.run(app.cards())
        assert (len(events), len(cards)) == (effect.events, effect.cards), example


def test_every_example_is_in_a_language_that_is_run(demo: ServiceProcess) -> None:
    for path in PAGE_PATHS:
        page = httpx.get(demo.url + path).raise_for_status()
        assert {one.label for one in page_examples(page.text)} <= LANGUAGES.keys()
    guide = page_examples(httpx.get(demo.url + GUIDE_PATH).text)
    assert {one.label for one in guide} == LANGUAGES.keys()


@pytest.mark.timeout(2 * GENERATE_SECONDS)
@pytest.mark.parametrize("label", [label for label in LANGUAGES if label != "Shell"])
def test_a_new_user_gets_from_the_overview_to_a_stored_event(
    demo: ServiceProcess, commands_of: CommandsOf, tmp_path: Path, label: str
) -> None:
    skip_without(label)
    examples = page_examples(httpx.get(demo.url + OVERVIEW_PATH).text)
    (setup,) = (one.code for one in examples if EXPORT in one.code)
    assert f"{EXPORT}{demo.demo_key}" in setup
    (send,) = (one for one in examples if one.label == label and "SUP-431" in one.code)

    command = commands_of(label)[send.code]
    program = tmp_path / "in_the_same_shell"
    program.write_text(f'{setup}\nexec "$@"\n')
    before = stored_events(demo)
    said = finish(tmp_path, ["bash", program, *command])

    assert re.search(r'"accepted":\s*(1|\[\s*\{)', said), said
    assert stored_events(demo) == before + 1


def stored_events(demo: ServiceProcess) -> int:
    """The events of the demo organization."""
    with psycopg.connect(demo.addresses.database_url) as db:
        row = db.execute(
            "SELECT count(*) FROM events JOIN organizations ON organizations.id = organization_id "
            "WHERE name = 'Demo'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_grpcurl_shows_what_is_zero_in_every_example(demo: ServiceProcess) -> None:
    for page in PAGES:
        for example in page_examples(httpx.get(demo.url + page.path).text):
            assert_emits_defaults(example.code, page.path)


ROOT: Final = Path(__file__).parents[3]


def test_grpcurl_shows_what_is_zero_wherever_the_project_writes_it() -> None:
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("proto/**/*.proto"),
        *ROOT.glob("service/**/*.py"),
        *ROOT.glob("client/**/*.md"),
    ]
    for file in texts:
        assert_emits_defaults(file.read_text("utf-8"), str(file))


def assert_emits_defaults(text: str, where: str) -> None:
    """Without the option the index of a rejected event is not shown when it is 0."""
    for command in re.findall(r"grpcurl -.*", text):
        assert " -emit-defaults" in command, f"{where}: {command}"
