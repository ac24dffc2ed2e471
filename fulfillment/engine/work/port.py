"""The one way in which the engine tells the order desk what happened to its orders.

The order desk registers an implementation at start-up. It is called inside the unit of work,
takes lists, and hands back the state changes that it made so that they join the order's audit
chain in the same transaction.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from fulfillment.errors import NotPossible

if TYPE_CHECKING:
    from fulfillment.engine.work.unit import Unit


class PlanChange(enum.StrEnum):
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    AMENDED = "AMENDED"
    """Another version of the order has taken over; `plan_id` and `graph_id` are the new ones."""
    UNDOING = "UNDOING"
    """It is given up; what has been done is being undone."""
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    MILESTONE_REACHED = "MILESTONE_REACHED"
    TASK_SUCCEEDED = "TASK_SUCCEEDED"
    """Told of the nodes that the order desk watches, and of no others; not when it was skipped,
    and anew when the order has moved to another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that happened to the plan of one fulfillment."""

    fulfillment_id: int
    plan_id: int
    graph_id: int
    change: PlanChange
    milestone: str = ""
    title: str = ""
    node: int | None = None
    given_up: tuple[int, ...] = ()
    """Of COMPLETED: positions of items that have not been fulfilled, because a task of them has
    failed for good."""
    waived: bool = False
    """Of TASK_SUCCEEDED: somebody has decided that the target need not do it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTransition:
    """A state change of an order, for the audit chain and for subscribers."""

    fulfillment_id: int
    order_id: str
    name: str
    from_state: str
    to_state: str
    cause: str
    event_type: str = ""
    event: dict[str, Any] = field(default_factory=dict)
    entity: str = "order"
    """Or a request about it that has states of its own; then `order_id` is that one's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent:
    """Something that subscribers are told about an order, and that changes no state."""

    fulfillment_id: int
    event_type: str
    event: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """A request about an order, and what was said to it."""

    state: str
    """Such as DENIED, ASSESSING or UNDOING."""
    told: str
    """One sentence."""


class OrderPort(Protocol):
    def notify(
        self, *, notices: Sequence[Notice], now: datetime
    ) -> Sequence[OrderTransition | OrderEvent]:
        """Apply what the notices mean to the orders; they are all locked by the caller."""

    def watched(self, *, graph_id: int) -> Collection[int]:
        """The nodes of this graph whose success is told as TASK_SUCCEEDED."""

    def decide(self, *, fulfillment_ids: Sequence[int]) -> None:
        """Nothing of these is under way that somebody has waited for: carry out what was asked, or
        let it go on. Called outside of any unit; again, if it fails."""

    def ask_customer(self, unit: Unit, *, fulfillment_id: int, question: str, number: str) -> None:
        """Tell the customer what a person has to know from them; `number` is another one each
        time. Called inside a unit that has locked it."""

    def cancel(self, unit: Unit, *, fulfillment_id: int, requested_by: str, reason: str) -> Filed:
        """Have it cancelled, as if its client had asked for it. Called inside a unit that has
        locked it. Raises NotPossible when nothing of it can be cancelled any more."""

    def awaits_rest(self, *, fulfillment_id: int) -> bool:
        """Whether `decide` has something to decide about it. Called inside a unit that has locked
        it."""


class _Unregistered:
    def notify(
        self, *, notices: Sequence[Notice], now: datetime
    ) -> Sequence[OrderTransition | OrderEvent]:
        return ()

    def watched(self, *, graph_id: int) -> Collection[int]:
        return ()

    def decide(self, *, fulfillment_ids: Sequence[int]) -> None:
        pass

    def ask_customer(self, unit: Unit, *, fulfillment_id: int, question: str, number: str) -> None:
        pass

    def cancel(self, unit: Unit, *, fulfillment_id: int, requested_by: str, reason: str) -> Filed:
        raise NotPossible("There is no order desk that could cancel it.")

    def awaits_rest(self, *, fulfillment_id: int) -> bool:
        return False


_port: OrderPort = _Unregistered()


def register(port: OrderPort) -> None:
    """Called once, when the order desk's app is ready."""
    global _port
    _port = port


def registered() -> OrderPort:
    return _port
