"""Sends the events of standard input, one JSON object a line, each exactly once.

    WEPEOPLE_API_KEY=... python stream.py HOST:PORT PRODUCER_ID < events.ndjson

It goes on over any disconnect. It may also be stopped and run again with the same lines, to which
others were added: it begins after those that the service has judged already. Prints the counts.
"""

import asyncio
import json
import os
import sys
from itertools import islice

from wepeople_ingest_client import StreamProducer


def on_rejected(number: int, _event: object, code: str, message: str) -> None:
    print(f"event {number} of this run: {code}: {message}", file=sys.stderr)


async def main(target: str, producer_id: str) -> None:
    key = os.environ["WEPEOPLE_API_KEY"]
    async with StreamProducer(target, key, producer_id, on_rejected=on_rejected) as producer:
        for line in islice(sys.stdin, producer.resumed_events, None):
            await producer.send(json.loads(line))
    counts = producer.metrics
    print(
        json.dumps(
            {
                "accepted": counts.accepted,
                "rejected": counts.rejected,
                "duplicate": counts.duplicate,
            }
        )
    )


asyncio.run(main(*sys.argv[1:]))
