"""What repairs of tasks have in common: what they are about, what they mean, what comes of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from fulfillment.authority.context import MONEY
from fulfillment.definitions.graph import Node
from fulfillment.engine.work import fallout
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.operations.repair import CameAbout, Found, Repair, Why
from fulfillment.operations.subjects import task_found, task_version, tasks_found
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_NAMED = 20


class TaskRepair(Repair):
    """A repair of one task: done when its task has got to where it was to."""

    about = "task"
    aims_at: ClassVar[frozenset[TaskState]] = TASK_SUCCESSFUL
    fails_as: ClassVar[frozenset[TaskState]] = frozenset(
        {TaskState.FAILED_FINAL, TaskState.AWAITING_MANUAL, TaskState.CANCELLED}
    )
    """Nothing more comes of it by itself."""

    def find(self, *, name: str) -> Found:
        return task_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return task_version(unit, found)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return tasks_found(pks=pks)

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        """That it was sent is not what it was for: it has to get there."""
        rows = Task.objects.filter(pk__in=pks).values_list("pk", "state", "blocked_reason")
        return {pk: self._came_of(TaskState(state), blocked) for pk, state, blocked in rows}

    def _came_of(self, state: TaskState, blocked: str) -> CameAbout:
        if state in self.aims_at:
            return CameAbout(is_so=True, told=f"It is {state}.")
        if state in self.fails_as:
            return CameAbout(is_so=False, told=f"It is {state}. {blocked}".strip())
        return CameAbout(is_so=None, told=f"It is {state}.")


def others(unit: Unit, *, task: Task) -> list[str]:
    """Keys of the other tasks that have moved with this repair."""
    moved = {
        int(entity_id)
        for _, _, entity, entity_id, _, before, after, *_ in unit.transitions
        if entity == "task" and before != after
    }
    keys = sorted(unit.tasks[pk].key for pk in moved - {task.pk} if pk in unit.tasks)
    return [*keys[:_NAMED], *([f"… and {len(keys) - _NAMED} more"] if len(keys) > _NAMED else [])]


def without_it(*, plan: Plan, nodes: Sequence[Node], found: Found) -> tuple[str, str]:
    """What it means to the customer, and in money, that these are not done."""
    titles = [milestone.title for node in nodes for milestone in node.milestones]
    customer = "The order goes on without it."
    if titles:
        told = ", ".join(f"“{title}”" for title in titles[:_NAMED])
        customer = f"{customer} What the customer is told of {told} rests on it."
    elif not any(node.required for node in nodes):
        customer = "None for the customer: the order would have completed without it."
    sums = revenue(plan=plan, nodes=nodes)
    if not MONEY.isdisjoint(found.context.domains):
        return customer, f"It is not charged or billed by this order: {sums or 'no price known'}."
    return customer, f"Sold for {sums}, and not done." if sums else "None."


def delayed(*, plan: Plan, node: Node, found: Found) -> tuple[str, str]:
    """What it means to the customer, and in money, while it is not done; it is about to be."""
    sums = fallout.revenue_impact(plan, node)
    money = f"Waits for it: {sums}." if sums else "None."
    if not MONEY.isdisjoint(found.context.domains):
        money = f"It may charge or bill: {sums or 'no price known'}."
    return fallout.customer_impact(node), money


def revenue(*, plan: Plan, nodes: Sequence[Node]) -> str:
    """What the items that these serve are sold for."""
    return next(filter(None, (fallout.revenue_impact(plan, node) for node in nodes)), "")


def evidence_of(why: Why) -> dict[str, str]:
    """What the audit trail keeps of how it was allowed, and what it rests on."""
    told = {"evidence": why.evidence, "authority": why.authority}
    return {name: text for name, text in told.items() if text}
