"""Code on pages: it comes out of a page as it went in."""

from __future__ import annotations

import html
import re

import pytest

from http_api.docs.code import code_block


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("sh", "curl 'http://x' \\\n  -d '{\"a\": \"<&>\"}'\n\n# end"),
        ("python", "def f():\n\n\n    return '''a\n    b'''"),
        ("go", 'func main() {\n\tfmt.Println("a")\n}'),
        ("typescript", "const a = `${b}` as unknown;"),
        ("json", '{"a": [1, 2.50, null]}'),
        ("text", "no language"),
    ],
)
def test_code_is_copied_as_it_was_written(language: str, code: str) -> None:
    block = code_block(code, language, "A <label>")
    shown = re.sub("<[^>]*>", "", block.partition("<code")[2].partition(">")[2])
    assert html.unescape(shown) == code
    assert 'data-label="A &lt;label&gt;"' in block
