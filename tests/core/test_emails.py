"""E-mail keys: by Unicode case folding."""

from __future__ import annotations

import sys

from core.emails import email_key


def test_a_key_is_one_form_of_all_its_spellings() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        key = email_key(character)
        # Keys of earlier releases were made in lower case: folding those gives the same.
        assert email_key(character.lower()) == key == email_key(key)
