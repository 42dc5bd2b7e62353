"""What a path names: an organization with its cell, an app, a key, a worker."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple
from uuid import UUID

from fastapi import Depends, Path

from core import ids
from core.admin import apps, keys, organizations, workers
from core.admin.apps import App
from core.admin.cell_sessions import CellSession
from core.admin.errors import InvalidValueError, NotFoundError
from core.admin.keys import ApiKey
from core.admin.organizations import Organization
from core.admin.workers import WorkerDetails
from http_api.manage.security import Cells

_SHOWN_CHARACTERS: Final = 64


class Owner(NamedTuple):
    """An organization, and its cell."""

    cell: CellSession
    organization: Organization


def _named(prefix: str, noun: str, given: str) -> UUID:
    found = ids.parse(prefix, given)
    if found is None:
        shown = given[:_SHOWN_CHARACTERS]
        raise NotFoundError(f"{shown!r} is no id of {noun}: those begin with {prefix}")
    return found


def id_in_query(prefix: str, member: str, given: str | None) -> UUID | None:
    """Return the id that a filter is given; InvalidValueError if it is none."""
    found = None if given is None else ids.parse(prefix, given)
    if given is not None and found is None:
        raise InvalidValueError(f"{member}: it is no id that begins with {prefix}")
    return found


async def _owner(
    cells: Cells,
    given: Annotated[
        str,
        Path(
            alias="organizationId",
            description="The id of the organization.",
            examples=["org_01HP3K5V4J3M9NVT8XZKQ9YQ2E"],
        ),
    ],
) -> Owner:
    organization_id = _named(ids.ORGANIZATION, "an organization", given)
    return Owner(*await organizations.get(cells, organization_id))


OwnerInPath = Annotated[Owner, Depends(_owner)]


async def _app(
    owner: OwnerInPath,
    given: Annotated[
        str,
        Path(
            alias="appId",
            description="The id of the app.",
            examples=["app_01HP3K5V4J3M9NVT8XZKQ9YQ2E"],
        ),
    ],
) -> App:
    app_id = _named(ids.APP, "an app", given)
    return await apps.get(owner.cell.db, owner.organization.id, app_id)


async def _key(
    owner: OwnerInPath,
    given: Annotated[
        str,
        Path(
            alias="keyId",
            description="The id of the key.",
            examples=["key_01HP3K5V4J3M9NVT8XZKQ9YQ2E"],
        ),
    ],
) -> ApiKey:
    key_id = _named(ids.KEY, "a key", given)
    return await keys.get(owner.cell.db, owner.organization.id, key_id)


async def _worker(
    owner: OwnerInPath,
    given: Annotated[
        str,
        Path(
            alias="workerId",
            description="The id of the worker.",
            examples=["wrk_01HP3K5V4J3M9NVT8XZKQ9YQ2E"],
        ),
    ],
) -> WorkerDetails:
    worker_id = _named(ids.WORKER, "a worker", given)
    return await workers.get(owner.cell.db, owner.organization.id, worker_id)


AppInPath = Annotated[App, Depends(_app)]
KeyInPath = Annotated[ApiKey, Depends(_key)]
WorkerInPath = Annotated[WorkerDetails, Depends(_worker)]
