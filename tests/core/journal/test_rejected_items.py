"""The content of refused items, as JSON."""

from __future__ import annotations

import json

from core.journal.rejected_items import item_json
from core.models import Actor, Event, EventColumns, Malformed

EVENT = Event("a.b", "code", Actor(external_id="c1"), metadata=b'{"n": "\\u0000"}')
WIRE = {
    "eventType": "a.b",
    "category": "code",
    "actor": {"externalId": "c1"},
    "metadata": {"n": "\0"},
}


def test_an_item_has_the_members_that_were_sent() -> None:
    text = item_json([EVENT, Malformed(("no",), b'{"eventType": 7}')])
    assert json.loads(text(0)) == WIRE
    assert "\0" not in text(0)
    assert text(1) == '{"eventType": 7}'


def test_columns_have_items_too() -> None:
    assert EVENT.actor is not None
    columns = EventColumns(
        [0, 0], [("a.b", "code")], [0, 0], [EVENT.actor], [None] * 2, [None] * 2, [None, b"{}"]
    )
    assert json.loads(item_json(columns)(1)) == {**WIRE, "metadata": {}}


def test_bytes_that_cannot_be_stored_are_replaced() -> None:
    assert item_json([Malformed((), b"\xff\0")])(0) == "\ufffd\ufffd"
