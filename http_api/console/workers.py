"""An organization's workers, and a worker's strip: cards, the course of each metric, events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Request, Response

from core import ids
from core.admin import snapshots, timeline, workers
from core.admin.errors import NotFoundError
from core.admin.snapshots import StoredSnapshot
from core.admin.timeline import Selection
from core.timestamps import from_datetime
from http_api.console import organizations
from http_api.console.plots import Line, line
from http_api.console.query import given, given_id
from http_api.console.rendering import address, page
from http_api.console.security import Reader
from http_api.paths import READING

PATH: Final = f"{organizations.PATH}/{{organization_id}}/workers"
PAGE_WORKERS: Final = 50
STRIP_SNAPSHOTS: Final = 200  # the latest of a worker, which the plots are made of
STRIP_EVENTS: Final = 10
# An app may send any number of types, of metrics and of its own ids for a person.
STRIP_CARDS: Final = 50
CARD_METRICS: Final = 50
STRIP_LINKS: Final = 20

router = APIRouter()


@router.api_route(PATH, methods=READING)
async def list_workers(request: Request, organization_id: str, visit: Reader) -> Response:
    """List the workers, or those whose name or e-mail begins with what is searched for."""
    search = given(request, "search")
    after = given_id(request, "after", ids.WORKER)
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        found = await workers.page(
            cell.db, organization.id, PAGE_WORKERS + 1, after, search or None
        )
    shown = found[:PAGE_WORKERS]
    next_page = None
    if len(found) > PAGE_WORKERS:
        next_page = address(request, after=ids.text(ids.WORKER, shown[-1].id))
    return page(
        request,
        "workers.html.jinja",
        organization=organization,
        here=organizations.path_of(organization),
        tab="workers",
        workers=shown,
        search=search,
        next_page=next_page,
        first_page=after and address(request, after=None),
    )


class Metric(NamedTuple):
    """A metric of a card; ``value`` is its text if it is no number."""

    name: str
    value: float | str
    unit: str
    label: str
    line: Line | None
    numbers: int  # that the line is made of


class Card(NamedTuple):
    """A current card, with the course of its numbers."""

    snapshot_type: str
    app_slug: str
    occurred_at: datetime
    metrics: Sequence[Metric]
    metadata: str | None
    left_out: int  # metrics that are not shown


@router.api_route(f"{PATH}/{{worker_id}}", methods=READING)
async def show_worker(
    request: Request, organization_id: str, worker_id: str, visit: Reader
) -> Response:
    """Show a worker's strip."""
    known_id = ids.parse(ids.WORKER, worker_id)
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        if known_id is None:
            raise NotFoundError(f"there is no worker {worker_id!r} in this organization")
        worker = await workers.get(cell.db, organization.id, known_id)
        current = await snapshots.cards_page(cell.db, organization.id, worker.id, STRIP_CARDS + 1)
        history = await snapshots.history(cell.db, organization.id, worker.id, STRIP_SNAPSHOTS)
        selection = Selection(organization.id, worker_id=worker.id)
        events, older = await timeline.page(cell.db, selection, STRIP_EVENTS)
    return page(
        request,
        "worker.html.jinja",
        organization=organization,
        here=organizations.path_of(organization),
        tab="workers",
        worker=worker,
        cards=cards(current[:STRIP_CARDS], history),
        has_more_cards=len(current) > STRIP_CARDS,
        links=worker.links[:STRIP_LINKS],
        events=events,
        has_older=older is not None,
    )


def cards(current: Sequence[StoredSnapshot], history: Sequence[StoredSnapshot]) -> list[Card]:
    """Return the cards, with the course of each number among the snapshots of the history."""
    past: dict[tuple[str, str], list[tuple[float, dict[str, Any]]]] = {}
    for one in history:
        seconds = from_datetime(one.occurred_at) / 1_000_000
        metrics = past.setdefault((one.app_slug, one.snapshot_type), [])
        metrics.append((seconds, msgspec.json.decode(one.metrics)))
    made = []
    for card in current:
        given_metrics: dict[str, Any] = msgspec.json.decode(card.metrics)
        before = past.get((card.app_slug, card.snapshot_type), [])
        shown = [
            _metric(name, given_value, before)
            for name, given_value in islice(given_metrics.items(), CARD_METRICS)
        ]
        made.append(
            Card(
                card.snapshot_type,
                card.app_slug,
                card.occurred_at,
                shown,
                card.metadata,
                len(given_metrics) - len(shown),
            )
        )
    return made


def _metric(name: str, given_value: Any, before: Sequence[tuple[float, dict[str, Any]]]) -> Metric:
    """Return a metric (contract section 6), with its course among those before."""
    details = given_value if isinstance(given_value, dict) else {}
    course = []
    for seconds, metrics in before:
        value = _value(metrics.get(name))
        if isinstance(value, int | float):
            course.append((seconds, value))
    course.sort()
    unit, label = details.get("unit") or "", details.get("label") or ""
    return Metric(name, _value(given_value), unit, label, line(course), len(course))


def _value(given_value: Any) -> Any:
    return given_value["value"] if isinstance(given_value, dict) else given_value
