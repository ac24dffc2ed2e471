"""One loop for all threads of a process: what is begun on other threads, and ended here together.

It begins what it can, waits until something of that has arrived, ends everything that has arrived
meanwhile at once, and begins again. A slow call holds nothing but itself.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_POKE = None


class OneLoop(Generic[T]):
    """`run` in several threads is one loop, which looks again.

    `begin` starts what there is to do and says so by `begun`, once for each; whoever does it
    hands over the result with `arrived`. `end` gets the results, and returns how many count.
    Both are called by the thread that runs the loop, never by two at the same time.
    """

    def __init__(
        self, *, name: str, begin: Callable[[], None], end: Callable[[list[T]], int]
    ) -> None:
        self.under_way = 0
        self._name = name
        self._begin = begin
        self._end = end
        self._running = threading.Lock()
        self._arrived: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def run(self) -> int:
        """Go on until nothing is under way and nothing can be begun.

        Returns what `end` has counted here. While the loop runs in another thread, it is told
        to look again and this call returns at once.
        """
        # The poke comes first: a loop that ends in between leaves it for whoever locks next.
        self._arrived.put(_POKE)
        counted = 0
        while not self._arrived.empty():
            if not self._running.acquire(blocking=False):
                return counted
            try:
                counted += self._work()
            finally:
                self._running.release()
        return counted

    def begun(self) -> None:
        self.under_way += 1

    def arrived(self, result: T) -> None:
        """From any thread."""
        self._arrived.put(result)

    def _work(self) -> int:
        counted = 0
        while True:
            results, poked = self._take(wait=self.under_way > 0)
            self.under_way -= len(results)
            if results:
                counted += self._end(results)
            elif not poked and self.under_way == 0:
                return counted
            try:
                self._begin()
            except Exception:
                if self.under_way == 0:
                    raise
                # What is on the wire must still be ended by this loop.
                logger.exception("nothing more was begun", extra={"loop": self._name})

    def _take(self, *, wait: bool) -> tuple[list[T], bool]:
        """Everything that has arrived, and whether to look again; with `wait`, at least one."""
        results: list[T] = []
        poked = False
        while True:
            try:
                item = self._arrived.get(block=wait)
            except queue.Empty:
                return results, poked
            wait = False
            if item is _POKE:
                poked = True
            else:
                results.append(item)
