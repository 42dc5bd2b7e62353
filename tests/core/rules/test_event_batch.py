"""Properties of the rules: whatever is sent is judged, and what is valid is accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from core import ids
from core.error_codes import ErrorCode
from core.models import Event, EventColumns, Malformed, WorkerName
from core.rules.event_batch import MIN_COLUMN_EVENTS, CheckedEvents, check_events
from tests.support import strategies
from tests.support.strategies import ALLOWED, CALLER, EXAMPLES

RECEIVED_US = 1_776_600_300_123_456
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@EXAMPLES
@given(st.lists(strategies.any_events, max_size=5))
def test_every_event_is_either_passed_on_or_rejected_for_a_reason(
    events: list[Event | Malformed],
) -> None:
    checked = check_events(CALLER, events, RECEIVED_US)
    rejected = [rejection.index for rejection in checked.rejected]
    assert sorted([*checked.indexes, *rejected]) == list(range(len(events)))
    assert rejected == sorted(rejected)
    for rejection in checked.rejected:
        assert rejection.code in {
            ErrorCode.INVALID_BODY,
            ErrorCode.MISSING_ACTOR,
            ErrorCode.FORBIDDEN_EVENT_TYPE,
        }
        assert rejection.message.startswith(f"events[{rejection.index}]")
        if rejection.code is ErrorCode.FORBIDDEN_EVENT_TYPE:
            event = events[rejection.index]
            assert isinstance(event, Event)
            assert event.event_type not in ALLOWED


@EXAMPLES
@given(st.lists(strategies.valid_events, max_size=5))
def test_valid_events_are_passed_on(events: list[Event]) -> None:
    checked = check_events(CALLER, events, RECEIVED_US)
    assert not checked.rejected
    assert [echo.event_type for echo in checked.echoes] == [event.event_type for event in events]


@EXAMPLES
@given(st.lists(strategies.valid_events | strategies.any_events, max_size=8), st.booleans())
def test_what_is_wrong_with_one_event_changes_nothing_for_the_others(
    few: list[Event | Malformed], echo: bool
) -> None:
    events = few * MIN_COLUMN_EVENTS
    with _one_id():
        together = check_events(CALLER, events, RECEIVED_US, echo=echo)
        wrong = Malformed(("is wrong",), b"")
        spoiled = check_events(CALLER, [*events, wrong], RECEIVED_US, echo=echo)
    *others, last = spoiled.rejected
    assert last.index == len(events)
    assert _as_lists(structs.replace(spoiled, rejected=others)) == _as_lists(together)


@EXAMPLES
@given(st.lists(strategies.valid_events | strategies.well_formed_events, max_size=8))
def test_events_are_judged_equally_in_columns(few: list[Event]) -> None:
    events = few * MIN_COLUMN_EVENTS
    columns = EventColumns(
        kind_indexes=[*range(len(few))] * MIN_TOGETHER,
        kinds=[(event.event_type, event.category) for event in few],
        actor_indexes=range(len(events)),
        actors=[event.actor for event in events],
        timestamps=[event.timestamp for event in events],
        durations=[event.duration for event in events],
        metadata=[event.metadata for event in events],
    )
    assert list(columns) == events
    with _one_id():
        one_by_one = check_events(CALLER, events, RECEIVED_US)
        by_columns = check_events(CALLER, columns, RECEIVED_US)
    assert by_columns.rejected == one_by_one.rejected
    assert by_columns.tails == one_by_one.tails
    assert list(by_columns.echoes) == list(one_by_one.echoes)
    assert _names(by_columns) == _names(one_by_one)


@contextlib.contextmanager
def _one_id() -> Iterator[None]:
    """Have all batches begin with the same id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "first_of_batch", lambda now_us: UUID(int=now_us))
        yield


def _as_lists(checked: CheckedEvents) -> dict[str, object]:
    return {
        member: value if isinstance(value, UUID) else list(value)
        for member, value in structs.asdict(checked).items()
    }


def _names(checked: CheckedEvents) -> list[WorkerName]:
    return [checked.names[actor_index] for actor_index in checked.actor_indexes]


@EXAMPLES
@given(
    st.lists(strategies.metadata_texts | strategies.any_json_texts, min_size=1, max_size=3),
    st.integers(1, 300),
)
def test_texts_that_are_plain_together_are_storable_each(texts: list[bytes], times: int) -> None:
    if json_text.are_plain(texts * times):
        assert [json_text.storable(text) for text in texts] == texts


@pytest.mark.parametrize(
    "texts",
    [
        [b'{"a":[1', b"2]}"],
        [b"{}{}", b" "],
        [b"{}", b""],
        [b"{}", b"[]"],
        [b'{"a":"\\u0000"}', b"{}"],
        [b'{"a":1e999}'],
        [b'{"a":%b}' % (b"9" * 400)],
        [b'{"a":' + b"[" * 256 + b"]" * 256 + b"}"],
    ],
)
def test_texts_that_need_a_closer_look_are_not_plain(texts: list[bytes]) -> None:
    assert not json_text.are_plain(texts)


def test_usual_texts_are_plain() -> None:
    usual = b'{"ticket_id": "SUP-1", "tags": ["a", "b"], "score": 4.5}'
    assert json_text.are_plain([None, *[usual] * 200, b"{}"])


async def _copied(database_url: str, checked: CheckedEvents) -> list[tuple[Any, ...]]:
    """The rows that PostgreSQL reads from the packed bytes."""
    async with await AsyncConnection.connect(session_conninfo(database_url)) as db:
        tails = checked.tails
        workers = [Worker(UUID(int=index), "") for index in range(len(tails))]
        organization_id, app_id, first_id = CALLER.organization_id, CALLER.app_id, checked.first_id
        pieces = copy_rows.assemble(
            organization_id, app_id, first_id, workers, range(len(tails)), tails
        )
        async with db.cursor() as cursor:
            async with cursor.copy(copy_rows.COPY_EVENTS) as copy:
                await copy.write(copy_rows.table(pieces))
            await cursor.execute(
                sql.SQL(
                    "SELECT id, worker_id, event_type, category, "
                    "(extract(epoch FROM occurred_at) * 1000000)::bigint, "
                    "duration_seconds, metadata::text FROM events ORDER BY id"
                )
            )
            found = await cursor.fetchall()
            await db.rollback()
            return found


def test_postgresql_reads_what_was_packed(database_url: str) -> None:
    @FEW_EXAMPLES
    @given(st.lists(strategies.valid_events, min_size=1, max_size=20))
    def check(events: list[Event]) -> None:
        # A month with a partition.
        received_us = timestamps.from_datetime(datetime.now(UTC))
        checked = check_events(CALLER, events, received_us)
        found = asyncio.run(_copied(database_url, checked))
        assert found == [
            (
                UUID(int=checked.first_id.int + index),
                UUID(int=index),
                event.event_type,
                event.category,
                received_us if event.timestamp is None else _us(event.timestamp),
                event.duration,
                event.metadata and bytes(event.metadata).decode(),
            )
            for index, event in enumerate(events)
        ]

    check()


def _us(moment: str | int) -> int:
    if isinstance(moment, str):
        whole = datetime.fromisoformat(moment) - EPOCH
        return whole // timedelta(microseconds=1)
    return moment


def _is_storable(value: object) -> bool:
    """The rule, on what Python's own parser made of the text."""
    match value:
        case str():
            return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        case int():
            return abs(value) < 2**1024 - 2**970  # what still rounds to a double
        case float():
            return value - value == 0
        case dict():
            return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
        case list():
            return all(map(_is_storable, value))
    return True


@EXAMPLES
@given(
    st.dictionaries(
        st.text(st.characters()),
        strategies.json_values(
            st.text(st.characters() | st.sampled_from("\0\ud800\udfff")),
            st.floats() | st.integers() | st.integers(-(10**320), 10**320),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_an_object_is_stored_if_python_can_say_it_too(value: dict[str, Any], ascii_: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_).encode(errors="surrogatepass")
    try:
        stored = json_text.storable(text)
    except ValueError:
        assert not _is_storable(value)
    else:
        assert _is_storable(value)
        assert stored == text


@pytest.mark.parametrize("number", ["1e5", "1E5", "1e-7", "0.10", "1.50e+020", "-0.0", "1" * 300])
def test_numbers_are_measured_as_they_are_written(number: str) -> None:
    count = (16_384 - len('{"n":[]}') + 1) // (len(number) + 1)
    text = '{"n":[' + ",".join([number] * count) + "]}"
    spaced = " " * 10_000 + text
    assert json_text.storable(spaced.encode()) == text.encode()
    over = spaced.replace("]", "," + ",".join([number] * (len(text) // len(number))) + "]")
    with pytest.raises(ValueError, match="16384 bytes"):
        json_text.storable(over.encode())
