"""Makes organizations in a database by the code of whatever checkout PYTHONPATH names.

    python -P make_tenants.py DATABASE_URL < LIST-OF-OPTIONS

A file that is run by its path, and imports only what every checkout has: databases of another
checkout may have other tables. ``new_keys`` among the options: so many more keys of the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
from typing import Any

HOMES = ("tests.support.tenant", "tests.tenant")  # the second in earlier checkouts


def _make_tenant() -> Any:
    for home in HOMES:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(home).make_tenant
    raise SystemExit(f"neither of {HOMES} is there")


async def main() -> None:
    """Print a list of ``{organization, key, new_keys}``."""
    make_tenant, made = _make_tenant(), []
    for options in json.load(sys.stdin):
        new_keys = options.pop("new_keys", 0)
        tenant = await make_tenant(sys.argv[1], **options)
        more = [(await tenant.another_key()).key for _ in range(new_keys)]
        identity = str(tenant.organization.id)
        made.append({"organization": identity, "key": tenant.key, "new_keys": more})
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
