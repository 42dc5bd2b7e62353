"""Strategies that generate events, valid and not, for the properties of the core."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st

from core import limits
from core.models import Actor, Caller, Event, Malformed
from core.timestamps import MAX_US, MIN_US, format_us

EXAMPLES = settings(max_examples=150, derandomize=True, deadline=None)
# For examples that make a round trip to PostgreSQL.
FEW_EXAMPLES = settings(max_examples=25, derandomize=True, deadline=None)

ALLOWED = frozenset({"ticket.resolved", "deal.won", "abc"})
CALLER = Caller(
    key_id=UUID(int=1),
    organization_id=UUID(int=2),
    app_id=UUID(int=3),
    app_slug="crm-hub",
    app_name="CRM Hub",
    developer_api=True,
    allowed_event_types=ALLOWED,
    key_requests_per_second=60,
    organization_requests_per_second=600,
    revoked=False,
    expires_us=None,
    cell="home",
)

# The text that PostgreSQL can store: no surrogates, no U+0000.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200
)
emails = (
    st.tuples(names, names)
    .map("@".join)
    .filter(lambda email: len(email) <= 320 and email[0] != "@" and email[-1] != "@")
)
numbers = st.one_of(
    st.integers(-(10**308), 10**308), st.floats(allow_nan=False, allow_infinity=False)
)
moments = st.one_of(
    st.sampled_from([MIN_US, MIN_US + 1, -1, 0, MAX_US - 1, MAX_US]), st.integers(MIN_US, MAX_US)
)


def json_values(
    strings: st.SearchStrategy[str], leaves: st.SearchStrategy[Any]
) -> st.SearchStrategy[Any]:
    """Nested JSON values of these strings and these other leaves."""
    return st.recursive(
        st.one_of(st.none(), st.booleans(), strings, leaves),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(strings, inner, max_size=4)
        ),
        max_leaves=12,
    )


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


storable_values = json_values(texts, numbers)
json_objects = st.dictionaries(texts, storable_values, max_size=4)
metadata_texts = json_objects.map(_encode).filter(lambda text: len(text) <= limits.MAX_JSON_BYTES)

valid_actors = st.one_of(
    st.builds(Actor, external_id=names, email=st.none() | emails, display_name=st.none() | names),
    st.builds(Actor, email=emails, display_name=st.none() | names),
    st.builds(Actor, worker_id=names),
)
valid_events = st.builds(
    Event,
    event_type=st.sampled_from(sorted(ALLOWED)),
    category=st.sampled_from(limits.CATEGORIES),
    actor=valid_actors,
    timestamp=st.none() | moments | moments.map(format_us),
    duration=st.none()
    | st.integers(0, limits.MAX_DURATION_SECONDS)
    | st.integers(0, limits.MAX_DURATION_SECONDS).map(float),
    metadata=st.none() | metadata_texts,
)

# Values of the right types, most of which break a rule.
_any_text = st.one_of(
    st.text(), st.text(st.characters()), st.sampled_from(["", "\0", "\ud800", "x" * 201])
)
any_json_texts = st.one_of(
    st.binary(max_size=40),
    st.text(st.sampled_from('{}[]":,\\u0de8 1.-+ntfalse'), max_size=40).map(str.encode),
    json_values(st.text(), st.floats() | st.integers()).map(_encode),
    st.sampled_from(
        [b'{"n":1e999999999999}', b'{"n":1e-99999999999999999999999}', b"[" * 5_000, b'{"a":' * 999]
    ),
)
_any_actors = st.builds(
    Actor,
    worker_id=st.none() | _any_text,
    external_id=st.none() | _any_text,
    email=st.none() | _any_text,
    display_name=st.none() | _any_text,
)
well_formed_events = st.builds(
    Event,
    event_type=st.sampled_from(sorted(ALLOWED)) | _any_text,
    category=st.sampled_from(limits.CATEGORIES) | _any_text,
    actor=st.none() | _any_actors,
    timestamp=st.none() | _any_text | st.integers(),
    duration=st.none() | st.integers() | st.floats(),
    metadata=st.none() | any_json_texts,
)
any_events = st.one_of(
    valid_events,
    well_formed_events,
    st.builds(Malformed, issues=st.just(("is wrong",)), content=st.binary(max_size=20)),
)
