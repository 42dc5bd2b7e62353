"""E-mail addresses: how they are compared."""

from __future__ import annotations


def email_key(email: str) -> str:
    """The form in which e-mails are compared: by Unicode case folding, trimmed of nothing."""
    return email.casefold()
