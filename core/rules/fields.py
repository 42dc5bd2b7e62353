"""The rules of single fields (contract sections 2 and 5).

Each rule is one small function. It returns the value ready to be stored, or raises ValueError with
the words for the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from core import ids, limits, timestamps
from core.emails import email_key
from core.models import Actor, Caller, Event, WorkerByEmail, WorkerById, WorkerByLink, WorkerName

MAX_ISSUES_IN_MESSAGE: Final = 8
MAX_CACHED_NAMES: Final = 10_000
NO_ACTOR: Final = "actor: must have a workerId, an externalId or an email"

_TYPE: Final = re.compile(limits.TYPE_PATTERN.removesuffix("$") + r"\Z")
_CATEGORIES: Final = frozenset(limits.CATEGORIES)
_NOBODY: Final = UUID(int=0)  # the id of no worker


def type_name(value: str) -> str:
    """An eventType or snapshotType."""
    if not _TYPE.match(value):
        raise ValueError(
            f"must be {limits.MIN_TYPE_CHARACTERS} to {limits.MAX_TYPE_CHARACTERS} characters "
            "of A-Z a-z 0-9 _ . - that start and end with a letter or digit"
        )
    return value


def category(value: str) -> str:
    """One of the seven categories."""
    if value not in _CATEGORIES:
        raise ValueError(f"must be one of {', '.join(limits.CATEGORIES)}")
    return value


def moment(value: str | int) -> tuple[int, str | int]:
    """A timestamp: microseconds since the epoch, and the same as its client is told of it.

    That is a text in its one form for a text, and otherwise the microseconds.
    """
    if isinstance(value, str):
        return timestamps.parse(value)
    check_instants(value)
    return value, value


def instant(value: str | int) -> int:
    """A timestamp in microseconds since the epoch."""
    return moment(value)[0]


def check_instants(*values: int) -> None:
    """Raises ValueError if any of the values is out of the range of timestamps."""
    if min(values) < timestamps.MIN_US or max(values) > timestamps.MAX_US:
        raise ValueError("must be in the years 1 to 9999")


def duration(value: int | float) -> int:
    """A duration: whole seconds, at most a day. 240.0 is whole."""
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("must be a whole number of seconds")
        value = int(value)
    if value < 0:
        raise ValueError("must be at least 0")
    if value > limits.MAX_DURATION_SECONDS:
        raise ValueError(f"must be at most {limits.MAX_DURATION_SECONDS}")
    return value


def text(value: str, most: int, least: int = 1) -> str:
    """Free text of ``least`` to ``most`` characters, stored exactly as sent."""
    if not least <= len(value) <= most:
        raise ValueError(f"must be {least} to {most} characters")
    return storable_text(value)


def storable_text(value: str) -> str:
    """Text that PostgreSQL can store and that JSON and protobuf can carry."""
    if "\0" in value:
        raise ValueError("must not contain U+0000")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("must not contain unpaired surrogates") from None
    return value


def email(value: str) -> str:
    """An e-mail address. The part before the @ can become a display name, so it is not empty."""
    text(value, limits.MAX_EMAIL_CHARACTERS, limits.MIN_EMAIL_CHARACTERS)
    if not value.find("@") > 0 or value.endswith("@"):
        raise ValueError("must be an e-mail address with something on both sides of the @")
    return value


def name(value: str) -> str:
    """An externalId or displayName."""
    return text(value, limits.MAX_NAME_CHARACTERS)


def worker_id(value: str) -> str:
    """A worker id, of any form: one in another form belongs to nobody, but is not malformed."""
    return text(value, limits.MAX_BODY_BYTES)


def worker_name(actor: Actor, caller: Caller) -> WorkerName | None:
    """The name by which an actor's worker is found; None if the actor names nobody.

    The worker id comes before the external id, the external id before the e-mail. Raises ValueError
    if any member that is given is invalid.
    """
    if actor.display_name is not None:
        name(actor.display_name)
    if actor.email is not None:
        email(actor.email)
    if actor.external_id is not None:
        name(actor.external_id)
    if actor.worker_id is not None:
        found = ids.parse(ids.WORKER, worker_id(actor.worker_id))
        return WorkerById(caller.organization_id, found or _NOBODY)
    if actor.external_id is not None:
        return WorkerByLink(caller.organization_id, caller.app_id, actor.external_id)
    if actor.email is not None:
        return WorkerByEmail(caller.organization_id, email_key(actor.email))
    return None


_cached_worker_name: Final = lru_cache(MAX_CACHED_NAMES)(worker_name)


def recurring_worker_name(actor: Actor, caller: Caller) -> WorkerName | None:
    """As :func:`worker_name`, from a cache: most events are about people who had events before."""
    # A worker id may be as long as a body, so an actor with one is not kept in the cache.
    return (_cached_worker_name if actor.worker_id is None else worker_name)(actor, caller)


def issues_message(issues: Sequence[str], path: str = "") -> str:
    """The first ``MAX_ISSUES_IN_MESSAGE`` issues of an item in one message, each after its path.

    An issue starts with its member (``duration: …``), or with ``:`` if it is about the whole item.
    """
    shown = [
        f"{path}{'.' if path and not issue.startswith(':') else ''}{issue}"
        for issue in issues[:MAX_ISSUES_IN_MESSAGE]
    ]
    if len(issues) > MAX_ISSUES_IN_MESSAGE:
        shown.append(f"and {len(issues) - MAX_ISSUES_IN_MESSAGE} more")
    return "; ".join(shown)


def event_issues(event: Event, metadata: bytes | ValueError | None) -> list[str]:
    """All broken rules of an event's fields, such as ``duration: must be at least 0``.

    ``metadata``: the text to store, or what is wrong with it.
    """
    return [
        *issue("eventType", type_name, event.event_type),
        *issue("category", category, event.category),
        *actor_issues(event.actor),
        *issue("timestamp", moment, event.timestamp),
        *issue("duration", duration, event.duration),
        *([f"metadata: {metadata}"] if isinstance(metadata, ValueError) else []),
    ]


def actor_issues(actor: Actor | None) -> list[str]:
    """All broken rules of an actor's fields."""
    if actor is None:
        return []
    return [
        *issue("actor.workerId", worker_id, actor.worker_id),
        *issue("actor.externalId", name, actor.external_id),
        *issue("actor.email", email, actor.email),
        *issue("actor.displayName", name, actor.display_name),
    ]


def issue(path: str, rule: Callable[[Any], object], value: object) -> list[str]:
    """The message of a broken rule after the value's path, as a list of one; else an empty list.

    None stands for a member that was not sent, and breaks no rule.
    """
    if value is not None:
        try:
            rule(value)
        except ValueError as error:
            return [f"{path}: {error}"]
    return []
