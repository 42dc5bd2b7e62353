"""An organization's usage: its quota, its apps' traffic, and its rejections by code."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from fastapi import APIRouter, Request, Response

from core.admin import traffic, usage
from core.admin.traffic import AppMinute
from core.timestamps import to_datetime
from http_api.console import organizations
from http_api.console.plots import Bar, bars
from http_api.console.query import given
from http_api.console.rendering import page
from http_api.console.security import Reader
from http_api.paths import READING

# The time that is shown, in minutes, and how many of them a bar stands for. Every app has a row in
# each minute, so that a day would be too much to read for a page.
SPANS: Final = {"60": 1, "180": 3}
_DEFAULT_SPAN: Final = "60"

router = APIRouter()


class AppTraffic(NamedTuple):
    """An app's traffic in the time that is shown."""

    app_slug: str
    requests: int
    accepted: int
    rejected: int
    mean_milliseconds: float
    slowest_milliseconds: float
    bars: Sequence[Bar]
    highest: int  # events in a bar


@router.api_route(f"{organizations.PATH}/{{organization_id}}/usage", methods=READING)
async def show_usage(request: Request, organization_id: str, visit: Reader) -> Response:
    """Show the usage of this month and the traffic of the last minutes."""
    wanted = given(request, "minutes")
    span = wanted if wanted in SPANS else _DEFAULT_SPAN
    now_us = visit.desk.clock.now_us()
    async with visit.cells() as cells:
        cell, organization = await organizations.find(cells, organization_id)
        month = await usage.read(cell.db, organization.id, now_us)
        minutes = await traffic.recent(cell.db, organization.id, int(span), now_us)
    return page(
        request,
        "usage.html.jinja",
        organization=organization,
        here=organizations.path_of(organization),
        tab="usage",
        usage=month,
        share=_share(month.used, month.quota),
        traffic=by_app(minutes, int(span), SPANS[span], now_us),
        span=span,
        spans=SPANS,
    )


def _share(used: int, quota: int | None) -> float | None:
    """The part of the quota that is used, from 0 to 1."""
    if quota is None:
        return None
    return min(used / quota, 1.0) if quota else 1.0


def by_app(
    minutes: Sequence[AppMinute], span: int, minutes_a_bar: int, now_us: int
) -> list[AppTraffic]:
    """Return the traffic of each app, all of them on one scale."""
    now = to_datetime(now_us)
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=span - 1)
    of_app: dict[str, list[AppMinute]] = {}
    for one in minutes:
        of_app.setdefault(one.app_slug, []).append(one)
    pairs = {
        slug: _pairs(rows, first, span // minutes_a_bar, minutes_a_bar)
        for slug, rows in of_app.items()
    }
    highest = max((sum(pair) for series in pairs.values() for pair in series), default=0)
    return [
        AppTraffic(
            slug,
            requests := sum(row.requests for row in rows),
            sum(row.accepted for row in rows),
            sum(row.rejected for row in rows),
            sum(row.mean_milliseconds * row.requests for row in rows) / max(requests, 1),
            max(row.slowest_milliseconds for row in rows),
            bars(pairs[slug], highest),
            highest,
        )
        for slug, rows in sorted(of_app.items())
    ]


def _pairs(
    rows: Sequence[AppMinute], first: datetime, count: int, minutes_a_bar: int
) -> list[tuple[int, int]]:
    sums = [(0, 0)] * count
    for row in rows:
        place = int((row.minute - first) / timedelta(minutes=minutes_a_bar))
        if 0 <= place < count:
            accepted, rejected = sums[place]
            sums[place] = (accepted + row.accepted, rejected + row.rejected)
    return sums
