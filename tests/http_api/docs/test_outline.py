"""The outline of a page, which its navigation and the search are made of."""

from __future__ import annotations

from http_api.docs.outline import Section, outline

PAGE = """
<h1>Page</h1><p>Of <em>all</em> things.</p>
<section><h2 id="one">One <code>x</code></h2><p>Text<br>goes on.</p>
<pre><code>curl</code></pre><fieldset><legend>Language</legend><label>curl</label></fieldset>
<article id="two"><h3 data-short="2">Two</h3><p>End.</p></article></section>
"""


def words(section: Section) -> str:
    return " ".join("".join(section.text).split())


def test_sections_have_the_words_up_to_the_next_but_no_code() -> None:
    page, one, two = outline(PAGE)
    assert (page.level, page.anchor, page.title, words(page)) == (1, None, "Page", "Of all things.")
    assert (one.level, one.anchor, one.title, words(one)) == (2, "one", "One x", "Textgoes on.")
    assert (two.level, two.title, words(two)) == (3, "Two", "End.")


def test_a_section_is_known_by_its_article_and_has_a_short_name() -> None:
    *_, two = outline(PAGE)
    assert (two.anchor, two.short) == ("two", "2")
    assert outline(PAGE)[1].short == "One x"
