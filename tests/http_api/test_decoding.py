"""Events of every wrong form: each is told what is wrong, and costs its neighbours nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.http_driver import HttpDriver
from tests.support.raw_http import SNAPSHOTS, ask, check_error, post
from tests.support.running_service import Addresses
from tests.support.tenant import Tenant, event, snapshot

pytestmark = pytest.mark.anyio

VALUES: dict[str, str] = {
    "null": "null",
    "boolean": "true",
    "integer": "7",
    "fraction": "1.5",
    "string": '"abc"',
    "array": "[]",
    "array of objects": "[{}]",
    "object": "{}",
}
# What each member may be, of the above; the rest is of a wrong type or form.
MEMBERS: dict[str, set[str]] = {
    "eventType": set(),
    "category": set(),
    "actor": set(),
    "timestamp": set(),
    "duration": {"integer"},
    "metadata": {"object"},
    "actor.workerId": set(),
    "actor.externalId": {"string"},
    "actor.email": set(),
    "actor.displayName": {"string"},
    "unknown": set(VALUES),
    "actor.unknown": set(VALUES),
}
WRONG = [
    (member, text)
    for member, right in MEMBERS.items()
    for kind, text in VALUES.items()
    if kind not in right
]
# Of the right type, but nobody, no worker and no type that is whitelisted.
OTHER_CODES = {
    ("eventType", '"abc"'): "forbidden_event_type",
    ("actor", "{}"): "missing_actor",
    ("actor.workerId", '"abc"'): "worker_not_found",
}
UNSTORABLE = {
    "1e999": "overflow a double",
    "-1e999": "overflow a double",
    "1.7976931348623159e308": "overflow a double",
    f'{{"text": "{"x" * 200}", "number": 1e999}}': "overflow a double",
    "9" * 309: "overflow a double",
    "9" * 5_000: "overflow a double",
    r'"\u0000"': "U+0000",
    r'"a\u0000b"': "U+0000",
    r'"\ud800"': "surrogates",
    r'"\udc00 \ud800"': "surrogates",
    r'{"\u0000": 1}': "U+0000",
    r'{"\ud83d": 1}': "surrogates",
}


def written(text: str, member: str) -> str:
    """A valid event with one member of it, possibly of its actor, as this JSON text."""
    parts = {name: json.dumps(value) for name, value in event().items()}
    outer, _, inner = member.partition(".")
    parts[outer] = f'{{"externalId": "a", "{inner}": {text}}}' if inner else text
    return "{" + ", ".join(f'"{name}": {value}' for name, value in parts.items()) + "}"


async def between_neighbours(http: HttpDriver, tenant: Tenant, text: str) -> tuple[str, str] | None:
    """Send an event between two good ones: its rejection's code and message, if it is rejected."""
    good = json.dumps(event())
    body = f'{{"events": [{good}, {text}, {good}]}}'
    reply = await http.post("events", tenant.key, body.encode())
    stored = len(await tenant.events())
    if not reply.rejected:
        assert (len(reply.accepted), stored) == (3, 3)
        return None
    assert (len(reply.accepted), stored) == (2, 2)
    (rejected,) = reply.rejected
    assert rejected.index == 1
    assert rejected.message.startswith("events[1]")
    assert len(rejected.message) < 2_000
    return rejected.code, rejected.message


@pytest.mark.parametrize(("member", "text"), WRONG, ids=str)
async def test_a_member_of_a_wrong_type_is_named(
    http: HttpDriver, tenant: Tenant, member: str, text: str
) -> None:
    rejection = await between_neighbours(http, tenant, written(text, member))
    assert rejection is not None
    code, message = rejection
    assert code == OTHER_CODES.get((member, text), "invalid_body")
    assert f"events[1].{member}" in message


@pytest.mark.parametrize("member", [name for name, right in MEMBERS.items() if right])
async def test_a_member_of_a_right_type_is_accepted(
    http: HttpDriver, tenant: Tenant, member: str
) -> None:
    for kind in MEMBERS[member]:
        text = written(VALUES[kind], member)
        reply = await http.post("events", tenant.key, f'{{"events": [{text}]}}'.encode())
        assert reply.code is None, (member, kind, reply.message)


@pytest.mark.parametrize("text", [*VALUES.values(), "[1, 2]", '"{}"'], ids=str)
async def test_an_element_of_a_wrong_type_is_rejected_alone(
    http: HttpDriver, tenant: Tenant, text: str
) -> None:
    rejection = await between_neighbours(http, tenant, text)
    assert rejection is not None
    assert rejection[0] == "invalid_body"


@pytest.mark.parametrize("text", UNSTORABLE, ids=lambda text: str(text)[:16])
@pytest.mark.parametrize("member", [*MEMBERS, "metadata.x"])
async def test_what_cannot_be_stored_spoils_only_its_event(
    http: HttpDriver, tenant: Tenant, member: str, text: str
) -> None:
    whole = written(f'{{"x": {text}}}', "metadata")
    if member != "metadata.x":
        whole = written(text, member)
    rejection = await between_neighbours(http, tenant, whole)
    assert rejection is not None
    assert rejection[0] == "invalid_body"
    assert UNSTORABLE[text] in rejection[1]


@pytest.mark.parametrize("text", UNSTORABLE, ids=lambda text: str(text)[:16])
@pytest.mark.parametrize("member", [*MEMBERS, "metadata.x", "actor.x"])
async def test_what_cannot_be_stored_spoils_its_event_from_an_earlier_duplicate(
    http: HttpDriver, tenant: Tenant, member: str, text: str
) -> None:
    good = json.dumps(event(metadata={"x": 1}))
    outer, _, inner = member.partition(".")
    earlier = f'"{outer}": {{"{inner}": {text}}}' if inner else f'"{outer}": {text}'
    rejection = await between_neighbours(http, tenant, f"{{{earlier}, {good[1:]}")
    assert rejection is not None
    assert rejection[0] == "invalid_body"
    assert UNSTORABLE[text] in rejection[1]


@pytest.mark.parametrize("text", UNSTORABLE, ids=lambda text: str(text)[:16])
async def test_what_cannot_be_stored_spoils_metadata_from_an_earlier_duplicate(
    http: HttpDriver, tenant: Tenant, text: str
) -> None:
    inside = written(f'{{"x": {text}, "x": 1}}', "metadata")
    rejection = await between_neighbours(http, tenant, inside)
    assert rejection is not None
    assert UNSTORABLE[text] in rejection[1]


@pytest.mark.parametrize("text", UNSTORABLE, ids=lambda text: str(text)[:16])
async def test_what_cannot_be_stored_is_no_element(
    http: HttpDriver, tenant: Tenant, text: str
) -> None:
    rejection = await between_neighbours(http, tenant, text)
    assert rejection is not None
    assert rejection[0] == "invalid_body"


@pytest.mark.parametrize("text", UNSTORABLE, ids=lambda text: str(text)[:16])
@pytest.mark.parametrize("member", ["metrics", "metrics.open", "metadata.x", "snapshotType", "x"])
async def test_what_cannot_be_stored_is_refused_in_snapshots(
    server: Addresses, tenant: Tenant, member: str, text: str
) -> None:
    outer, _, inner = member.partition(".")
    parts = {name: json.dumps(value) for name, value in snapshot().items()}
    parts[outer] = f'{{"{inner}": {text}}}' if inner else text
    body = "{" + ", ".join(f'"{name}": {value}' for name, value in parts.items()) + "}"
    answer = await ask(server.http, post(tenant.key, body.encode(), SNAPSHOTS))
    check_error(answer, 400, "invalid_body")


@pytest.mark.parametrize(
    "text",
    [
        r'"\ud83d\ude00"',
        '"😀"',
        r'"\\u0000 is written so"',
        "9" * 300,
        "0.1000000000000000055511151231257827021181583404541015625",
        "1e308",
        "-0",
        "1e-999",
        '"NaN"',
        "[" * 124 + "]" * 124,
        "1e-16383",
        "0.0e5",
        '{"b":1,"a":[-0,-0.0,{"c":1E+2}]}',
    ],
    ids=lambda text: str(text)[:24],
)
async def test_what_can_be_stored_is_stored_compact(
    http: HttpDriver, tenant: Tenant, text: str
) -> None:
    metadata = f' {{"x": {text},\n"x ":  1.0, "y": 0}} '
    assert await between_neighbours(http, tenant, written(metadata, "metadata")) is None
    value = {r'"\ud83d\ude00"': '"😀"'}.get(text, text)
    stored = f'{{"x":{value},"x ":1.0,"y":0}}'
    assert [row["metadata"] for row in await tenant.events()] == [None, stored, None]
    assert await between_neighbours_of_more(http, tenant, written(text, "unknown"))


async def between_neighbours_of_more(http: HttpDriver, tenant: Tenant, text: str) -> bool:
    reply = await http.post("events", tenant.key, f'{{"events": [{text}]}}'.encode())
    return reply.code is None


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (r'{"a": "\u00e9\/\u0041\n\""}', r'{"a":"é/A\n\""}'),
        ('{"a": 1, "b": {"c": 1, "c": 2.50}, "a": 3}', '{"a":3,"b":{"c":2.50}}'),
        ("{" + ", ".join(f'"a": "{"x" * 16_000}"' for _ in range(6)) + ', "a": 1}', '{"a":1}'),
        ("{" + ", ".join(f'"a": "{"x" * 16_000}"' for _ in range(60)) + ', "a": 1}', '{"a":1}'),
        ('{"a": ' + " " * 500_000 + "1}", '{"a":1}'),
    ],
    ids=lambda text: str(text)[:24],
)
async def test_what_is_stored_is_what_counts(
    http: HttpDriver, tenant: Tenant, sent: str, stored: str
) -> None:
    assert await between_neighbours(http, tenant, written(sent, "metadata")) is None
    assert (await tenant.events())[1]["metadata"] == stored


@pytest.mark.parametrize("number", ["1e-16384", "0e-20000", "0e1000000000", "1e-" + "9" * 400])
async def test_a_number_that_is_no_numeric_is_refused(
    http: HttpDriver, tenant: Tenant, number: str
) -> None:
    rejection = await between_neighbours(http, tenant, written(f'{{"x": {number}}}', "metadata"))
    assert rejection is not None
    assert "numbers" in rejection[1]


@pytest.mark.parametrize("first", ["1", "null", '"x"', "[]", '{"workerId": 1}'])
@pytest.mark.parametrize("member", ["eventType", "actor", "metadata", "duration"])
async def test_of_duplicate_members_the_last_counts(
    http: HttpDriver, tenant: Tenant, member: str, first: str
) -> None:
    good = event(metadata={"a": 1}, duration=5)
    text = "{" + f'"{member}": {first}, ' + json.dumps(good)[1:]
    rejection = await between_neighbours(http, tenant, text)
    assert rejection is None
    row = (await tenant.events())[1]
    assert (row["event_type"], row["duration_seconds"]) == ("ticket.resolved", 5)
    assert json.loads(row["metadata"]) == {"a": 1}
    last = json.dumps(good)[:-1] + f', "{member}": {first}}}'
    reply = await http.post("events", tenant.key, f'{{"events": [{last}]}}'.encode())
    right = (member, first) in [("duration", "1"), ("metadata", '{"workerId": 1}')]
    assert (reply.code is None) == right, reply.message


@pytest.mark.parametrize(
    ("text", "stored"),
    [("240", 240), ("240.0", 240), ("2.4e2", 240), ("0", 0), ("-0.0", 0), ("86400", 86_400)],
)
async def test_a_whole_number_of_seconds_is_a_duration(
    http: HttpDriver, tenant: Tenant, text: str, stored: int
) -> None:
    assert await between_neighbours(http, tenant, written(text, "duration")) is None
    assert (await tenant.events())[1]["duration_seconds"] == stored


INJECTIONS = [
    "'; DROP TABLE events; --",
    '" OR ""="',
    "%s %(x)s {0} $1",
    "\\'; SELECT 1",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "a\tb",
    "a\x7fb\x1b[31m",
    "\\copy",
    "\\.",
    "\u202eevil",
    "a\u0301",
    "ＡＢＣ",
]


@pytest.mark.parametrize("text", INJECTIONS)
async def test_text_is_data(http: HttpDriver, tenant: Tenant, text: str) -> None:
    actor: dict[str, Any] = {"externalId": text, "displayName": text}
    email = f"{text}@example.com"
    events = [
        event(actor=actor, metadata={text: text}),
        event(actor={"email": email, "displayName": text}),
        event(actor={"workerId": text}),
        event(actor={"externalId": "z"}, eventType=text),
        event(actor={"externalId": "z"}, category=text),
        event(actor={"externalId": "z"}, timestamp=text),
    ]
    reply = await http.ingest(tenant.key, events, f"key-{len(text)}")
    assert reply.codes == ["worker_not_found", *["invalid_body"] * 3]
    assert len(reply.accepted) == 2
    workers = await tenant.workers()
    assert {(row["display_name"], row["email"]) for row in workers} == {(text, None), (text, email)}
    assert json.loads((await tenant.events())[0]["metadata"]) == {text: text}


async def test_many_wrong_members_make_a_message_of_bounded_length(
    http: HttpDriver, tenant: Tenant
) -> None:
    text = json.dumps({name: [] for name in ("eventType", "category", "timestamp", "duration")})
    odd = text[:-1] + "".join(f', "{n}": "\\u0000"' for n in range(10_000)) + "}"
    rejection = await between_neighbours(http, tenant, odd)
    assert rejection is not None
    assert "eventType: must be a string" in rejection[1]
