"""The SQL of the road of a batch obeys the rules by which it works on every kind of cell."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType, SimpleNamespace
from typing import Final

import pytest

import core.access
import core.admin
import core.journal
from core.postgres import copy_rows, partitions
from core.postgres.migrate import Migration, available
from tests.support.sql_rules import (
    cell_tables,
    misread_counts,
    names_its_organization,
    parsed,
    problems,
    statements,
    tables_of,
)


def modules_of(package: ModuleType) -> list[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


HOT: Final = [*modules_of(core.journal), *modules_of(core.access), copy_rows, partitions]
ALL: Final = [*HOT, *modules_of(core.admin)]

# The maintenance of a cell is for all of its organizations.
OF_ALL_ORGANIZATIONS: Final = {
    "core.journal.idempotency._CLEAN",
    "core.journal.app_producers._APPS_WITH_UNUSED",
    "core.journal.key_uses._CLEAN",
    "core.journal.traffic._CLEAN",
}


def named(modules: list[ModuleType]) -> dict[str, str]:
    return {
        f"{module.__name__}.{name}": text
        for module in modules
        for name, text in statements(module).items()
    }


def test_all_statements_are_looked_at() -> None:
    found = named(HOT)
    assert {
        "core.journal.quota._CHARGE",
        "core.journal.workers._INSERT_LINKS",
        "core.journal.commit_lock._TAKE",
        "core.access.callers._FIND",
        "core.postgres.copy_rows.COPY_EVENTS",
        "core.postgres.partitions._ATTACH",
    } <= found.keys()
    assert any("FROM deployment" in text for text in found.values())
    assert any(text.startswith("DROP TABLE") for text in found.values())  # within a function
    assert {"organizations", "events", "producer_counts"} <= cell_tables()
    assert not {"deployment", "cells"} & cell_tables()


@pytest.mark.parametrize(("name", "text"), named(ALL).items(), ids=lambda value: str(value)[:60])
def test_a_statement_works_on_every_kind_of_cell(name: str, text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(("name", "text"), named(HOT).items(), ids=lambda value: str(value)[:60])
def test_a_statement_names_its_organization(name: str, text: str) -> None:
    assert names_its_organization(text) is (name not in OF_ALL_ORGANIZATIONS)


LOCKS: Final = {
    name: text for name, text in named(modules_of(core.journal)).items() if "pg_advisory" in text
}


@pytest.mark.parametrize(("name", "text"), LOCKS.items(), ids=lambda value: str(value)[:60])
def test_an_advisory_lock_is_taken_on_the_node_that_writes(name: str, text: str) -> None:
    """Citus runs a statement without a table on whatever node it comes to."""
    assert tables_of(text) & cell_tables()


@pytest.mark.parametrize("module", ALL, ids=lambda module: str(module.__name__))
def test_rows_are_not_counted_by_the_command_tag_of_an_upsert(module: ModuleType) -> None:
    assert misread_counts(module) == []


@pytest.mark.parametrize("migration", available("cell"), ids=lambda migration: str(migration.name))
def test_a_cell_is_migrated_by_one_statement_at_a_time(migration: Migration) -> None:
    for piece in migration.pieces:
        [tree] = parsed(piece)
        assert problems(piece) == []
        assert tree["@"] not in {"CreateFunctionStmt", "CreateTrigStmt", "DoStmt"}


UPSERT: Final = (
    "INSERT INTO apps (organization_id, id) SELECT a, b FROM unnest($1, $2) AS w (a, b) "
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT 1; SELECT 2", "several statements"),
        (UPSERT + "ON CONFLICT (id) DO UPDATE SET name = (SELECT 'x')", "a sub-select"),
        (UPSERT + "ON CONFLICT (id) DO UPDATE SET created_at = now()", "a function"),
        (UPSERT + "ON CONFLICT (id) DO UPDATE SET created_at = CURRENT_TIMESTAMP", "the time"),
        (UPSERT + "ON CONFLICT (id) DO UPDATE SET name = %s", "a parameter"),
        (
            UPSERT + "ON CONFLICT (id) DO UPDATE SET name = ''"
            " WHERE apps.created_at < excluded.created_at - interval '1 day'",
            "adds an interval",
        ),
        (UPSERT + "ON CONFLICT ON CONSTRAINT apps_pkey DO NOTHING", "names a constraint"),
        ("INSERT INTO apps (id) SELECT id FROM organizations WHERE NOT x", "from the table"),
        (
            "INSERT INTO apps (id) SELECT a FROM unnest($1) AS w (a) LEFT JOIN organizations ON x",
            "from the table organizations",
        ),
        ("SELECT FROM apps JOIN workers USING (organization_id) FOR UPDATE", "several tables"),
        ("SELECT FROM directory_keys JOIN apps USING (organization_id)", "together with directory"),
        ("SELECT FROM north.apps WHERE organization_id = %s", "names the schema north"),
    ],
)
def test_a_statement_that_breaks_a_rule_is_found(text: str, problem: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert problem in found[0]


@pytest.mark.parametrize(
    "text",
    [
        UPSERT + "ON CONFLICT (id) DO UPDATE SET n = apps.n + excluded.n, m = apps.m + 1",
        UPSERT + "ON CONFLICT (id) DO NOTHING",
        UPSERT + "ON CONFLICT (id) DO UPDATE SET name = ''"
        " WHERE excluded.created_at - apps.created_at > interval '1 day'",
        "INSERT INTO apps (organization_id) VALUES (%s) ON CONFLICT (id) DO UPDATE SET name = %s",
        "SELECT FROM apps WHERE organization_id = %s FOR UPDATE",
        "SELECT FROM directory_keys WHERE cell LIKE '%%x'",
        "SELECT FROM pg_class WHERE oid = 'events'::regclass",
        "WITH w AS (SELECT FROM apps) SELECT FROM w JOIN organizations ON true",
    ],
)
def test_a_statement_that_breaks_none_is_not(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("SELECT FROM apps WHERE organization_id = %s", True),
        ("SELECT FROM apps WHERE id = %s", False),
        ("SELECT organization_id FROM apps ORDER BY organization_id", False),
        ("SELECT FROM organizations WHERE id = %s", True),
        ("SELECT FROM organizations WHERE name = %s", False),
        ("SELECT FROM unnest(%s) AS w (organization_id) JOIN apps USING (organization_id)", True),
        ("SELECT FROM apps a JOIN workers w ON w.organization_id = a.organization_id", True),
        ("SELECT FROM apps a JOIN workers w ON w.id = a.id", False),
        ("SELECT EXISTS (SELECT FROM events WHERE id = %s)", False),
        (
            "SELECT FROM events WHERE organization_id = %s AND id IN (SELECT id FROM workers)",
            False,
        ),
        ("INSERT INTO apps (organization_id, id) VALUES (%s, %s)", True),
        ("INSERT INTO apps (id) VALUES (%s)", False),
        ("COPY events (organization_id, id) FROM STDIN", True),
        ("COPY events FROM STDIN", False),
        ("UPDATE apps SET name = %s WHERE organization_id = %s AND id = %s", True),
        ("UPDATE apps SET organization_id = %s WHERE id = %s", False),
        ("DELETE FROM apps USING unnest(%s) AS w (x) WHERE apps.organization_id = x", True),
        ("DELETE FROM apps", False),
        ("SELECT FROM deployment", True),
        ("CREATE TABLE x (LIKE events INCLUDING ALL)", True),
    ],
)
def test_it_is_seen_whether_a_statement_names_its_organization(text: str, is_named: bool) -> None:
    assert names_its_organization(text) is is_named


def test_a_count_by_the_command_tag_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("module") / "module.py"
    source.write_text(
        "async def wrong(db):\n    return (await db.execute(_PUT)).rowcount\n"
        "async def right(db):\n    return (await db.execute(_CUT)).rowcount\n"
    )
    module = SimpleNamespace(
        __file__=str(source),
        _PUT="INSERT INTO a SELECT * FROM unnest(%s) ON CONFLICT DO NOTHING",
        _CUT="DELETE FROM a",
    )
    assert misread_counts(module) == ["wrong"]  # type: ignore[arg-type]
