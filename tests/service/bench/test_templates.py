"""Texts whose ids differ from one rendering to the next."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

from service.bench.templates import Template, length, unique_ids


def test_every_id_is_a_uuid_of_its_own() -> None:
    template, ids = Template.of("${id}, ${id} ü"), unique_ids()
    rendered = [template.render(ids).decode() for _ in range(100)]
    assert {len(one.encode()) for one in rendered} == {length("${id}, ${id} ü")}
    found = [one for text in rendered for one in text.removesuffix(" ü").split(", ")]
    assert len(set(found)) == 200
    assert all(str(UUID(one)) == one for one in found)
    assert {*islice(unique_ids(), 100)}.isdisjoint(one.encode() for one in found)


def test_a_text_without_ids_is_always_the_same() -> None:
    assert Template.of("$ {id}").render(unique_ids()) == b"$ {id}"
