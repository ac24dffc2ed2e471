"""A subscriber to every event of a run, which is unwell now and then, and notes what it took."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from tests.chaos.evidence import Evidence, Violation
from tests.receiver import Received, Receiver, Reply

_UNWELL = 0.02
"""Each refusal keeps the order's other events back for 5 s; one of 100 elements has hundreds."""
_EVENTS = """
SELECT d.event_id, d.fulfillment_id, f.order_reference AS "order"
FROM fulfillment_delivery d JOIN fulfillment_fulfillment f ON f.id = d.fulfillment_id
WHERE d.state = 'DELIVERED' ORDER BY d.event_id
"""


class Subscriber:
    """Refuses a share of what comes, with a 503 or by cutting the connection."""

    def __init__(self, *, seed: int) -> None:
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._taken: list[tuple[str, str]] = []
        self._receiver = Receiver(self._answer)
        self.origin = self._receiver.origin

    def close(self) -> None:
        self._receiver.close()

    def _answer(self, request: Received) -> Reply:
        with self._lock:
            thrown = self._dice.random()
            if thrown > _UNWELL:
                self._taken.append((request.message_id, request.event["orderId"]))
        if thrown < _UNWELL / 2:
            raise ConnectionError("unwell")
        return Reply(status=503 if thrown <= _UNWELL else 204)

    def violations(self, evidence: Evidence) -> Iterator[Violation]:
        """What is marked as delivered has come, and for each order in sequence."""
        with self._lock:
            taken = list(self._taken)
        seen = {name for name, _ in taken}
        for row in evidence.rows(_EVENTS):
            if f"evt-{row['event_id']}" not in seen:
                yield Violation(
                    rule="event-lost",
                    text=f"Event {row['event_id']} of {row['order']} is marked as delivered and "
                    "has never come.",
                    rows=[row],
                )
        last: dict[str, int] = {}
        first_time: set[str] = set()
        for name, order in taken:
            number = int(name.removeprefix("evt-"))
            if name not in first_time and number < last.get(order, 0):
                yield Violation(
                    rule="events-out-of-sequence",
                    text=f"{name} of {order} came after evt-{last[order]}.",
                )
            first_time.add(name)
            last[order] = max(number, last.get(order, 0))
