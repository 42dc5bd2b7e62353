"""The guide: what it says of codes, limits and addresses is what the service does."""

from __future__ import annotations

import pytest

from core.error_codes import CATALOGUE, ErrorCode
from http_api.docs.frame import markdown_content
from http_api.errors import HTTP_STATUS
from tests.http_api.docs.promised_document import SITE

GUIDE = str(markdown_content("guide.md", SITE))


@pytest.mark.parametrize("code", ErrorCode)
def test_the_guide_says_what_to_do_on_the_code(code: ErrorCode) -> None:
    table = GUIDE.partition('id="what-to-do"')[2].partition("</table>")[0]
    (row,) = (row for row in table.split("<tr>") if f"#{code.value}" in row)
    assert f"<td>{int(HTTP_STATUS[code])}</td>" in row
    for words in (CATALOGUE[code].retry.value, CATALOGUE[code].remedy):
        assert words.replace("`", "") in row.replace("<code>", "").replace("</code>", "")
