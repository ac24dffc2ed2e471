"""What the orchestrator promises about locks and turns, over all orders.

A lock has a name, and a capacity in units. Whoever keeps it is a task, from its first send to its
end, or an order, from the first send of any task to the end of all. Whoever comes too late lines
up and is called up in turn: by priority, then by rank, then by how deep it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from tests.properties.model import IN_DOUBT, MOVING, TERMINAL, Heard, Plan, Task

STEP_MS = 1_000
Place = tuple[int, str]
"""An order, and one of its tasks."""
WHOLE = ""
"""In the place of a task: the order as a whole."""
SENDABLE = {"READY", "FAILED_RETRYABLE"}


@dataclass
class Shop:
    """Every order, what each keeps, and who waits for what."""

    capacity: Mapping[str, int]
    """Units of each resource; the resource is what stands before the colon of a name."""
    plans: dict[int, Plan] = field(default_factory=dict)
    targets: dict[Place, str] = field(default_factory=dict)
    numbers: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Depth and number of each task: what decides between equals."""
    kept: dict[tuple[str, int, str], int] = field(default_factory=dict)
    """(name, order, task or WHOLE) -> units."""
    line: dict[Place, str] = field(default_factory=dict)
    """Who waits, and for which lock."""
    _latest: dict[str, int] = field(default_factory=dict)

    # --- turns ----------------------------------------------------------------------------------

    def rank(self, *, customer: str, at_ms: int) -> int:
        """Of the customer's next order, as if they came at an even pace."""
        earliest = self._latest.get(customer, at_ms - STEP_MS) + STEP_MS
        self._latest[customer] = max(at_ms, earliest)
        return self._latest[customer]

    def turn(self, place: Place) -> tuple[int, int, int, int]:
        plan = self.plans[place[0]]
        return (-plan.priority, plan.rank + self._task(place).behind, *self.numbers[place])

    def first_in_line(self, name: str) -> set[Place]:
        """Who is called up: of each target system as many as there is room for."""
        found: dict[str, list[Place]] = {}
        for place in sorted((p for p, of in self.line.items() if of == name), key=self.turn):
            found.setdefault(self.targets[place], []).append(place)
        return {place for places in found.values() for place in places[: self._room(name)]}

    # --- what happens ---------------------------------------------------------------------------

    def claim(self, place: Place) -> bool:
        """A worker takes it; True when it is to be asked about and not sent."""
        order, key = place
        plan = self.plans[order]
        if plan.tasks[key].claim():
            return True
        assert place not in self.line, f"{place} waits for {self.line.get(place)}, and is sent"
        assert not self.lacks(place), f"{place} is sent without {self.lacks(place)}"
        self.kept.update(((name, order, key), units) for name, units in self._own(place))
        if plan.locks:
            self.kept.update(((name, order, WHOLE), units) for name, units in plan.locks.items())
            # What their order has now they wait for no longer.
            for other in [p for p in self.line if p[0] == order and self.line[p] in plan.locks]:
                del self.line[other]
        return False

    def line_up(self, place: Place, name: str) -> None:
        assert name in self.lacks(place), f"{place} waits for {name}, which is free"
        assert self.may_be_sent(place)
        self.line[place] = name

    def hear(self, order: int, *heard: Heard) -> None:
        """What one settlement takes in together; what has ended lets go."""
        self.plans[order].hear(*heard)
        self.let_go(order)

    def let_go(self, order: int) -> set[str]:
        """What has ended keeps nothing. Returns the locks of which some has become free."""
        ended = {
            (name, of, key)
            for name, of, key in self.kept
            if of == order
            and (
                self.plans[of].state == "COMPLETED" if key == WHOLE else self._has_ended((of, key))
            )
        }
        for one in ended:
            del self.kept[one]
        return {name for name, _, _ in ended}

    def call_up(self, *, noted: Collection[str]) -> None:
        for place in {place for name in noted for place in self.first_in_line(name)}:
            del self.line[place]

    # --- what must hold -------------------------------------------------------------------------

    def lacks(self, place: Place) -> set[str]:
        """Those of its locks, its order's among them, for which there is no room."""
        order, _ = place
        of_order = {
            name: units
            for name, units in self.plans[order].locks.items()
            if (name, order, WHOLE) not in self.kept
        }
        return {
            name
            for name, units in (*self._own(place), *of_order.items())
            if units > self._room(name) - self._used(name)
        }

    def may_be_sent(self, place: Place) -> bool:
        return self._task(place).state in SENDABLE

    def check(self, *, noted: Collection[str]) -> None:
        """After every step; `noted` are the names of which somebody is to be called up."""
        for name in {name for name, _, _ in self.kept}:
            assert self._used(name) <= self._room(name), f"{name} is given to too many"
        for name, order, key in self.kept:
            assert key == WHOLE or self.plans[order].tasks[key].state in IN_DOUBT | MOVING | {
                "AWAITING_MANUAL"
            }, f"{name} is kept by {key}, which has ended"
        for (order, key), name in self.line.items():
            assert (name, order, WHOLE) not in self.kept, f"{key} waits for what its order has"
            assert name in noted or self._used(name), f"{key} waits for {name}, which is free"

    @property
    def waiting_orders(self) -> set[int]:
        """Orders in which nothing moves but what waits for a lock that is kept."""
        return {
            order
            for order, plan in self.plans.items()
            if plan.moving
            and not plan.selection_due
            and all(
                self._used(self.line.get((order, key), ""))
                for key, task in plan.tasks.items()
                if task.state in MOVING
            )
        }

    def nobody_waits_in_a_circle(self) -> None:
        """When nothing else moves: behind everybody who waits there is somebody for a person."""
        for name, order, key in self.kept:
            assert key == WHOLE or self._task((order, key)).state == "AWAITING_MANUAL", name
        waiting = {
            order: {of for p, name in self.line.items() if p[0] == order for of in self._by(name)}
            for order in self.waiting_orders
        }
        grounded = {
            order
            for order, plan in self.plans.items()
            if order not in waiting
            or any(task.state == "AWAITING_MANUAL" for task in plan.tasks.values())
        }
        while found := {o for o, keepers in waiting.items() if keepers & grounded} - grounded:
            grounded |= found
        assert grounded >= waiting.keys(), "they wait for each other"

    def _by(self, name: str) -> set[int]:
        """Orders that keep it, or of which a task does."""
        return {order for of, order, _ in self.kept if of == name}

    def _own(self, place: Place) -> Iterator[tuple[str, int]]:
        """The locks of the task itself that it does not have."""
        order, key = place
        for name, units in self._task(place).locks.items():
            if (name, order, key) not in self.kept:
                yield name, units

    def _room(self, name: str) -> int:
        return self.capacity[name.partition(":")[0]]

    def _used(self, name: str) -> int:
        return sum(units for (of, _, _), units in self.kept.items() if of == name)

    def _task(self, place: Place) -> Task:
        order, key = place
        return self.plans[order].tasks[key]

    def _has_ended(self, place: Place) -> bool:
        return self._task(place).state in TERMINAL
