"""Measure the bytes of an event, and print the tables of docs/scale.md: `make capacity`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from core.postgres.migrate import migrate
from service.postgres.embedded import EmbeddedPostgres
from tests.capacity import nodes, placement, storage
from tests.support.database import connect

# Organizations, and bytes of metadata: those of `bench`, and those of talkative integrations.
LOADS: Final = ((1, 0), (100, 0), (100, 300), (100, 1_500))
REQUESTS: Final = 5_000
CONNECTIONS: Final = (64, 1)


async def measure(database_url: str) -> list[str]:
    """The table of bytes an event."""
    await migrate(database_url)
    lines = ["| events | table | index | log |", "| --- | --- | --- | --- |"]
    async with await connect(database_url) as db:
        await db.execute("SET statement_timeout = 0")
        for organizations, metadata_bytes in LOADS:
            size = await storage.store(db, organizations, metadata_bytes)
            title = f"{organizations} organization{'s' * (organizations > 1)}, " + (
                f"{metadata_bytes:,} bytes of metadata" if metadata_bytes else "as of `bench`"
            )
            lines.append(f"| {title} | {size.table:.0f} | {size.indexes:.0f} | {size.wal:.0f} |")
    for connections in CONNECTIONS:
        wal = await storage.log_of_requests(database_url, REQUESTS, connections)
        title = f"1 a request, {connections} connection{'s' * (connections > 1)}"
        lines.append(f"| {title} | | | {wal:.0f} |")
    return lines


def main() -> None:
    """Print everything."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder)).acquire() as lease,
    ):
        measured = asyncio.run(measure(lease.conninfo))
    tables = (measured, nodes.lines(), placement.cell_lines(), placement.node_lines())
    sys.stdout.write("\n\n".join("\n".join(table) for table in tables) + "\n")


if __name__ == "__main__":
    main()
