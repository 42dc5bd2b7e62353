"""``wepeople-ingest key rotate-secret``."""

from __future__ import annotations

from service.cli.output import note, print_json
from service.cli.session import Json, Session, now_us, run


def rotate_secret(as_json: Json = False) -> None:
    """Put WEPEOPLE_KEY_SECRET in force, once every service has it and the one before it.

    New keys get digests by it, and old digests are renewed as their keys are used. Again is
    harmless.
    """
    from core.admin import key_secrets

    async def work(session: Session) -> tuple[bool, int, int]:
        changed = await key_secrets.rotate(session.cells, await session.secrets(), now_us())
        old = await key_secrets.keys_with_old_digests(session.cells, now_us())
        tokens = await key_secrets.tokens_with_old_digests(session.db, now_us())
        return changed, len(old), tokens

    changed, old, tokens = run(work)
    if as_json:
        print_json(
            {
                "changed": changed,
                "keysThatNeedPreviousSecret": old,
                "operatorsThatNeedPreviousSecret": tokens,
            }
        )
        return
    note("The secret is in force." if changed else "The secret was in force already.")
    if old or tokens:
        note(
            f"Keys that need the one before it until they are used: {old}, operators: {tokens}. "
            "`wepeople-ingest key list` says how many are left."
        )
