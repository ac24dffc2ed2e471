"""How far a cancellation is: what it waits for, and what has been undone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import TASK_SUCCESSFUL, TaskState
from oms.models import CancellationRequest, CancellationState, Order

_UNDER_WAY = (
    TaskState.DISPATCHED,
    TaskState.ACCEPTED,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.AWAITING_MANUAL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Of the tasks that undo something; `waits_for` names what has to end, by key."""

    total: int = 0
    done: int = 0
    waits_for: tuple[str, ...] = ()


def standings(*, order: Order, requests: Sequence[CancellationRequest]) -> dict[int, Standing]:
    """By request, of the requests of one order; a fixed number of queries."""
    plans = {request.plan_id for request in requests if request.plan_id is not None}
    shapes = dict(Plan.objects.filter(pk__in=plans).values_list("pk", "graph_id"))
    rows = Task.objects.filter(plan__in=plans, round=0).order_by("node", "element")
    tasks = list(rows.defer("outputs")) if plans else []
    found = {}
    for request in requests:
        if request.plan_id is not None:
            mine = (task for task in tasks if task.plan_id == request.plan_id)
            found[request.pk] = _of_undoing(shapes[request.plan_id], mine)
        elif request.state == CancellationState.ASSESSING:
            found[request.pk] = Standing(waits_for=unsettled(order=order, request=request))
        else:
            found[request.pk] = Standing()
    return found


def standing_in(unit: Unit, *, request: CancellationRequest) -> Standing:
    """The same of a request that this unit has made: its plan and tasks are not written yet."""
    if request.plan_id is None:
        return Standing(waits_for=tuple(request.quote["waits_for"]) if request.is_open else ())
    mine = [task for task in unit.tasks.values() if task.plan_id == request.plan_id]
    mine.sort(key=lambda task: (task.node, task.element))
    return _of_undoing(unit.plans[request.plan_id].graph_id, mine)


def unsettled(*, order: Order, request: CancellationRequest) -> tuple[str, ...]:
    """The tasks that are still under way of those for which the decision waits."""
    tasks = Task.objects.filter(
        fulfillment_id=order.fulfillment_id,
        key__in=request.quote.get("waits_for", []),
        state__in=_UNDER_WAY,
        round=0,
    )
    return tuple(tasks.order_by("node", "element").values_list("key", flat=True))


def _of_undoing(graph_id: int, tasks: Iterable[Task]) -> Standing:
    nodes = graphs.by_id(graph_id).nodes
    mine = [task for task in tasks if nodes[task.node].undoes]
    ahead = [task.key for task in mine if task.state not in TASK_SUCCESSFUL]
    return Standing(total=len(mine), done=len(mine) - len(ahead), waits_for=tuple(ahead))
