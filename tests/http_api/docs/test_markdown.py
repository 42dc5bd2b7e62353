"""Markdown: anchors, sections, tabs and call-outs."""

from __future__ import annotations

import pytest

from http_api.docs.markdown import to_html

FENCES = """\
::: examples
~~~sh curl
echo "<b>"
~~~
~~~python Python 3
print("a")
~~~
:::
"""


@pytest.mark.parametrize(
    ("heading", "html"),
    [
        ("## Rates & quotas", '<h2 id="rates-quotas">Rates &amp; quotas</h2>'),
        ("## Send `events`", '<h2 id="send-events">Send <code>events</code></h2>'),
        ("### Retries {#what_to-do2}", '<h3 id="what_to-do2">Retries</h3>'),
    ],
)
def test_a_heading_has_an_anchor(heading: str, html: str) -> None:
    assert html in to_html(heading)


def test_an_anchor_stands_for_one_section() -> None:
    with pytest.raises(ValueError, match="retries"):
        to_html("## Retries\n\n### Again {#retries}\n")


def test_headings_begin_sections() -> None:
    html = to_html("# Page\n\nlead\n\n## One\n\ntext\n\n### Two\n\nmore\n")
    assert html.count("<section>") == html.count("</section>") == 2
    assert html.index("lead") < html.index("<section>") < html.index("One")
    assert html.index("</section>") < html.index("Two")


def test_examples_are_tabs_of_which_the_first_is_open() -> None:
    html = to_html(FENCES + "\ntext\n\n" + FENCES)
    assert html.count('<div class="aside">') == html.count("<fieldset") == 2
    assert html.count(" checked>") == 2
    for number in (1, 2):
        opened = f'<input type="radio" name="example-{number}" id="example-{number}-0" checked>'
        assert f'{opened}<label for="example-{number}-0">curl</label>' in html
        assert f'<label for="example-{number}-1">Python 3</label>' in html
    assert "&lt;b&gt;" in html
    assert '<code class="language-python">' in html


def test_a_labelled_fence_stands_beside_the_text_with_the_examples_before_it() -> None:
    html = to_html(FENCES + "\n~~~json Answer\n{}\n~~~\n\n~~~json\n[]\n~~~\n")
    assert html.count('<div class="aside">') == 1
    beside, _, inside = html.partition('</div>\n<div class="code" data-label="json">')
    assert 'data-label="Answer"' in beside
    assert "[]" in inside


@pytest.mark.parametrize("kind", ["note", "warning"])
def test_a_call_out_says_its_kind(kind: str) -> None:
    html = to_html(f"::: {kind}\nMind the *gap*.\n:::\n")
    assert f'<div class="call-out {kind}">' in html
    assert f'<p class="kind">{kind.capitalize()}</p>\n<p>Mind the <em>gap</em>.</p>\n</div>' in html


def test_a_table_can_be_wider_than_the_page() -> None:
    assert '<div class="wide"><table>' in to_html("| a | b |\n| --- | --- |\n| c | d |\n")
