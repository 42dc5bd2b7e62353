"""The surroundings of a command: a database or a server, and an organization with a key."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.service.cli.command import KEY, Result, Run, run_here
from tests.service.cli.produce.events_file import Produce, ProduceResult
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, make_tenant


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process use the test's own database."""
    for name in os.environ:
        if name.startswith("WEPEOPLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_URL", database_url)


@pytest.fixture
def run(environment: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, as its entry point does."""
    return lambda *arguments: Result(*run_here(monkeypatch, *arguments))


@pytest.fixture
def acme(run: Run) -> str:
    """A key of the app crm-hub of Acme."""
    run("org", "create", "Acme", "--quota", "10")
    run("app", "create", "Acme", "crm-hub", "--name", "CRM Hub", "--allow", "ticket.resolved")
    key = run("key", "create", "crm-hub", "--json").json()["key"]
    assert KEY.fullmatch(key)
    return str(key)


@pytest.fixture
def zoe(run: Run, acme: str) -> str:
    """The id of Zoe, beside whom Acme has Alex."""
    run("worker", "create", "Acme", "--name", "Alex", "--email", "alex@a.example")
    created = ("worker", "create", "Acme", "--name", "Zoe", "--email", "zoe@a.example", "--json")
    return str(run(*created).json()["id"])


@pytest.fixture
def tenant(server: Addresses) -> Tenant:
    """An organization without a quota; not made in the test's loop, for commands have their own."""
    return asyncio.run(make_tenant(server.database_url))


@pytest.fixture
def produce(server: Addresses, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Produce:
    """Runs ``produce`` in this process, with the tenant's key, against the shared server."""
    monkeypatch.setenv("WEPEOPLE_API_KEY", tenant.key)
    command = ("produce", "--server", server.grpc)
    return lambda *arguments: ProduceResult(*run_here(monkeypatch, *command, *map(str, arguments)))
