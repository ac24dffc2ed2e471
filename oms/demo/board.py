"""What the demo shows while it runs: a bar per order, and what is under way where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Count
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fulfillment.models import Task
from fulfillment.states import TASK_SUCCESSFUL, PlanState, TaskState
from oms.models import Order
from oms.states import ORDER_TERMINAL, OrderState

_ROWS = 24
_UNDER_WAY = {
    TaskState.READY: "waiting for a slot",
    TaskState.DISPATCHED: "being sent",
    TaskState.ACCEPTED: "accepted, working",
    TaskState.FAILED_RETRYABLE: "to be retried",
    TaskState.OUTCOME_UNKNOWN: "outcome unknown, asking",
    TaskState.AWAITING_MANUAL: "waiting for a person",
    TaskState.FAILED_FINAL: "failed",
}
_MARKS = {
    OrderState.COMPLETED: Text("✔ completed", "green"),
    OrderState.IN_PROGRESS: Text("▶ in progress", "cyan"),
    OrderState.VALIDATING: Text("… being checked", "cyan"),
    OrderState.REJECTED: Text("✘ rejected", "red"),
}


@dataclass(slots=True)
class View:
    """How the batch stands at one moment."""

    orders: list[tuple[str, str, str, int, int, str]] = field(default_factory=list)
    """Reference, external id, state, tasks, open tasks, plan state."""
    where: dict[str, dict[str, int]] = field(default_factory=dict)
    """Target system → task state → number."""
    tasks: int = 0
    tasks_done: int = 0

    @property
    def completed(self) -> int:
        return sum(state == OrderState.COMPLETED for _, _, state, *_ in self.orders)

    @property
    def finished(self) -> bool:
        """Nothing moves any more by itself."""
        return all(
            state in ORDER_TERMINAL or plan == PlanState.BLOCKED
            for _, _, state, _, _, plan in self.orders
        )


def look(references: Sequence[str]) -> View:
    """Two queries, however many orders there are."""
    view = View()
    for reference, external_id, state, total, still_open, plan in (
        Order.objects.filter(reference__in=references)
        .order_by("id")
        .values_list(
            "reference",
            "external_id",
            "state",
            "fulfillment__plans__mandatory_total",
            "fulfillment__plans__mandatory_open",
            "fulfillment__plans__state",
        )
    ):
        view.orders.append((reference, external_id, state, total or 0, still_open or 0, plan or ""))
    counts = (
        Task.objects.filter(plan__fulfillment__order_reference__in=references)
        .values_list("target_id", "state")
        .annotate(count=Count("id"))
    )
    for target, state, count in counts:
        view.tasks += count
        if state in TASK_SUCCESSFUL:
            view.tasks_done += count
        if state in _UNDER_WAY:
            view.where.setdefault(target, {})[state] = count
    return view


def draw(view: View, *, seconds: float) -> Group:
    """The whole board: totals, bars, and the target systems."""
    total = len(view.orders)
    head = Text.assemble(
        ("Orders ", "bold"),
        f"{view.completed} of {total} completed   ",
        ("Tasks ", "bold"),
        f"{view.tasks_done} of {view.tasks} done   ",
        ("Time ", "bold"),
        f"{seconds:.1f} s",
    )
    bars = Table.grid(padding=(0, 2))
    unfinished_first = sorted(view.orders, key=lambda order: order[4] == 0)
    for reference, external_id, state, tasks, still_open, plan in unfinished_first[:_ROWS]:
        mark = _MARKS.get(OrderState(state), Text(state))
        if plan == "BLOCKED":
            mark = Text("■ blocked", "yellow")
        bars.add_row(
            reference,
            Text(external_id, "dim"),
            ProgressBar(total=max(tasks, 1), completed=tasks - still_open, width=24),
            f"{tasks - still_open}/{tasks}",
            mark,
        )
    if total > _ROWS:
        bars.add_row("", Text(f"… and {total - _ROWS} more", "dim"))
    where = Table(title="Under way", title_justify="left", box=None, padding=(0, 2, 0, 0))
    where.add_column("target system")
    where.add_column("")
    for target in sorted(view.where):
        where.add_row(
            target,
            ", ".join(
                f"{count} {_UNDER_WAY[TaskState(state)]}"
                for state, count in sorted(view.where[target].items())
            ),
        )
    return Group(head, Text(), bars, Text(), where)


def line(view: View, *, seconds: float) -> str:
    """The same in one line, for a terminal that can't be redrawn."""
    where = ", ".join(
        f"{target} {sum(states.values())}" for target, states in sorted(view.where.items())
    )
    return (
        f"{seconds:6.1f} s  orders {view.completed}/{len(view.orders)}  "
        f"tasks {view.tasks_done}/{view.tasks}  under way: {where or 'nothing'}"
    )
