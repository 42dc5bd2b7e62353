"""Admission: every bound on work without an answer yet, shared fairly among organizations.

This module has all of them together, and no party gets more of a resource than all others leave it:

- **turns** of the event loop. In one turn the loop runs all that is ready, and work that becomes
  ready meanwhile waits for the next. A stored request takes dozens of turns, so each turn may begin
  few requests, judge few events and send few acks, of each flow in turn.
- **memory** of single requests, from the first byte of a body that arrives to the answer.
- **streamed** batches, from before they are decoded to their acknowledgement.
- **streams** that are open. Those that use a database to open are bounded by its cell
  (core/cells.py).
"""

from __future__ import annotations

from typing import Final

from core.access.fair_turns import FairTurns
from core.access.memory_bounds import MAX_OPEN_STREAMS, MAX_REQUEST_BYTES, MAX_STREAMED_EVENTS
from core.access.shared_budget import SharedBudget
from core.access.slice_turns import SliceTurns

MAX_BEGUN_A_TURN: Final = 16  # requests
# Of these, strangers whose last key was nobody's; those who come new are not behind them.
MAX_RETURNING_A_TURN: Final = 2
MAX_READ_A_TURN: Final = 8  # pieces of bodies
MAX_JUDGED_A_TURN: Final = 150  # events, on average; a larger step is followed by idle turns
MIN_JUDGED_IN_TURN: Final = 50  # events; fewer take hardly longer than the rest of a request
MAX_ACKED_A_TURN: Final = 8  # batches of streams; a transaction commits hundreds of them at once
MAX_WAITING_STEPS: Final = 8_192  # of all flows together
# Never a full one, for any flow: each stream waits with one, and what it has stored is to be told.
MAX_WAITING_ACKS: Final = 3 * MAX_OPEN_STREAMS


class Admission:
    """The bounds of one process.

    ``beginning``: turns to begin a request, whatever becomes of it. ``returning``: turns of
    strangers who were refused before, ahead of ``beginning``. ``reading``: turns to read one more
    piece of a body that did not come at once. ``judging``: turns to decode and judge the events of
    a batch. ``acking``: turns to send an ack, upon which its stream goes on.
    ``waiting_steps``: the places of those who wait for the first four.
    ``slices``: turns of long work, by the time that it takes. ``memory``: bytes of single requests.
    ``streamed``: events of streamed batches (core/access/memory_bounds.py). ``open_streams``:
    streams.
    """

    def __init__(self) -> None:
        self.waiting_steps = SharedBudget(MAX_WAITING_STEPS)
        self.beginning = FairTurns(MAX_BEGUN_A_TURN, self.waiting_steps)
        self.returning = FairTurns(MAX_RETURNING_A_TURN, self.waiting_steps)
        self.reading = FairTurns(MAX_READ_A_TURN, self.waiting_steps)
        self.judging = FairTurns(MAX_JUDGED_A_TURN, self.waiting_steps)
        self.acking = FairTurns(MAX_ACKED_A_TURN, SharedBudget(MAX_WAITING_ACKS))
        self.slices = SliceTurns()
        self.memory = SharedBudget(MAX_REQUEST_BYTES)
        self.streamed = SharedBudget(MAX_STREAMED_EVENTS)
        self.open_streams = SharedBudget(MAX_OPEN_STREAMS)
