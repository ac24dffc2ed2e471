"""The slots of one drain: each makes one call after the other, and may know the next beforehand.

While an answer is settled and the next command claimed, its slot would stand empty; with short
calls that is much of the time. So one command may be claimed behind a call that will be over
soon: it waits here, for this slot alone, and goes when the call has ended. To the limit of the
target both are one, as they follow one another; whoever places a hold waits for both.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from adapters.contract import Adapter, Outcome
from fulfillment.engine.dispatch.claiming import Claim, Room
from fulfillment.engine.protection.admission import is_usable
from fulfillment.engine.tasks.outcomes import not_begun

_SOON_SECONDS = 0.25
"""Calls that usually take longer lose little of their slot, and nobody may wait long for one."""
_FEW = 8
"""Slots. With more of them enough is under way to fill the time of a settlement, and what would
wait behind it here only keeps somebody else's command waiting longer."""
_WEIGHT = 0.2
"""Of the last call, in what is usual."""

Result = tuple[Claim, Outcome]


class Slots:
    """So many threads; `call` makes one call, `arrived` is told of each result, by its thread.

    Everything else is for one thread alone, that which claims and settles.
    """

    def __init__(
        self,
        *,
        name: str,
        call: Callable[[Adapter, Claim], Outcome],
        arrived: Callable[[Result], None],
    ) -> None:
        self._name = name
        self._call = call
        self._arrived = arrived
        self._open: Counter[int] = Counter()
        self._threads: ThreadPoolExecutor | None = None
        self._count = 0
        self._lock = threading.Lock()
        self._calling: set[int] = set()
        self._following: defaultdict[int, deque[tuple[Adapter, Claim]]] = defaultdict(deque)
        self._usual_seconds: float | None = None
        self._closed = False

    def room(self, *, of: int) -> Room:
        """For what there is room in so many slots."""
        free = [slot for slot in range(of) if not self._open[slot]]
        usual = self._usual_seconds
        if usual is None or usual >= _SOON_SECONDS or of > _FEW:
            return Room(calls=len(free), slots=free)
        soon = [slot for slot in range(of) if self._open[slot] == 1]
        return Room(calls=len(free), slots=free, soon=soon, quick=True)

    def begin(self, adapter: Adapter, claim: Claim, *, of: int) -> None:
        """Make this call in its slot, of so many, as soon as that is free.

        Raises RuntimeError when there are no more threads. What can't be handed to one is not
        sent: its lease ends, and it is asked for.
        """
        assert claim.slot is not None
        with self._lock:
            if claim.slot in self._calling:
                self._following[claim.slot].append((adapter, claim))
            else:
                self._threads_for(of).submit(self._work, claim.slot, adapter, claim)
                self._calling.add(claim.slot)
        self._open[claim.slot] += 1

    def ended(self, claims: Iterable[Claim]) -> None:
        """Their results have arrived, and are about to be settled."""
        for claim in claims:
            if claim.slot is not None:
                self._open[claim.slot] -= 1

    def close(self) -> None:
        """What has not begun is not begun any more."""
        self._closed = True

    def _work(self, slot: int, adapter: Adapter, claim: Claim) -> None:
        well = True
        while True:
            # Behind a call that went wrong the breaker, or a person, may have something to say.
            may_begin = well and not self._closed
            outcome = self._timed(adapter, claim) if may_begin else not_begun(claim.purpose)
            well = is_usable(outcome)
            with self._lock:
                line = self._following[slot]
                following = line.popleft() if line else None
                if following is None:
                    self._calling.discard(slot)
            self._arrived((claim, outcome))
            if following is None:
                return
            adapter, claim = following

    def _timed(self, adapter: Adapter, claim: Claim) -> Outcome:
        began = time.monotonic()
        outcome = self._call(adapter, claim)
        took = time.monotonic() - began
        usual = self._usual_seconds
        self._usual_seconds = took if usual is None else usual + _WEIGHT * (took - usual)
        return outcome

    def _threads_for(self, count: int) -> ThreadPoolExecutor:
        if self._threads is None or self._count != count:
            if self._threads is not None:
                self._threads.shutdown(wait=False)
            self._count = count
            self._threads = ThreadPoolExecutor(count, thread_name_prefix=self._name)
        return self._threads
