"""Breaking a lock whose holder can't let go of it (reference §9.1, §29)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from fulfillment.actions import Action
from fulfillment.engine.plans import anew
from fulfillment.engine.work import locking
from fulfillment.engine.work.rows import plans_by_id, tasks_by_id, tasks_by_plan
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import OutcomeInDoubt, SubjectUnknown
from fulfillment.models import Fulfillment, Plan, ResourceLock, Task
from fulfillment.operations.looking import found_once
from fulfillment.operations.plans import named
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.operations.subjects import order_found, orders_found


class Breaking(Parameters):
    in_spite_of_doubt: bool = Field(
        False,
        description="Although something that needs the lock is under way, or nobody knows whether "
        "it has happened: somebody has found out that nothing more will come of it.",
    )


class BreakLock(Repair):
    """Whoever waits for it gets it; its holder has to get it anew before it sends anything more.

    With it goes what the holder keeps by the same right: an order has all of its locks or none.
    """

    action = Action.LOCK_BREAK
    kind = "break_lock"
    about = "lock"
    parameters = Breaking
    needs_evidence = True

    def find(self, *, name: str) -> Found:
        return lock_found(name=name)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        rows = ResourceLock.objects.filter(pk__in=pks).values_list("pk", "name", "fulfillment_id")
        orders = orders_found(pks=frozenset(order for _, _, order in rows))
        return {pk: _of_lock(lock, orders[order]) for pk, lock, order in rows}

    def version(self, unit: Unit, found: Found) -> str:
        rows = _kept(found)
        told = " ".join(f"{one.pk} {one.units} {one.taken_at.isoformat()}" for one in rows)
        return hashlib.sha256(told.encode()).hexdigest()[:16] if told else "free"

    def carry_out(self, unit: Unit, found: Found, parameters: Breaking, why: Why) -> Done:
        lock, order = _named(found)
        locking.enter(unit.raw, names=[lock])
        mine = _kept(found)
        if not mine:
            raise SubjectUnknown(f"{order} does not keep {lock} any more.")
        task_ids = {one.task_id for one in mine if one.task_id is not None}
        plan_ids = {one.plan_id for one in mine if one.task_id is None}
        unknown = _in_doubt(unit, task_ids, plan_ids)
        if unknown and not parameters.in_spite_of_doubt:
            raise OutcomeInDoubt(
                f"What needs {lock} is under way, or in doubt: {named(unknown)}. Wait for what "
                "becomes of it, or say it (task.reconcile); or break the lock in spite of that "
                "(in_spite_of_doubt)."
            )
        with_it = sorted(_all_of(task_ids, plan_ids) - {lock})
        if plan_ids:
            # It has to have all of them again before it sends anything more.
            Plan.objects.filter(pk__in=plan_ids).update(is_locked=False)
        unit.free(locks={lock, *with_it}, task_ids=task_ids, plan_ids=plan_ids)
        waiting = Task.objects.filter(waits_for_lock=lock).exclude(waits_for_lock="").count()
        unit.record(
            fulfillment_id=found.fulfillment_ids[0],
            entity="lock",
            entity_id=lock,
            name="break_lock",
            before="KEPT",
            after="BROKEN",
            cause=why.reason,
            details={"in_doubt": sorted(unknown)[:100], "with_it": with_it[:100]},
        )
        told = f"{order} keeps {lock} no longer; {waiting} wait for it."
        if with_it:
            told += f" With it goes {named(with_it)}."
        return Done(
            told=told,
            before={
                "lock": lock,
                "order": order,
                "since": min(one.taken_at for one in mine).isoformat(),
                "in_doubt": sorted(unknown)[:100],
            },
            after={"lock": lock, "kept": False, "with_it": with_it[:100]},
            customer_impact="Two orders may change the same thing at once."
            if unknown
            else "Orders that wait for it go on.",
        )


@found_once
def lock_found(*, name: str) -> Found:
    """A lock and who keeps it: `customer:C-17`, or of several `customer:C-17@O-17`.

    Raises SubjectUnknown; of several holders it names them.
    """
    lock, orders = name, _holders(name)
    if not orders and "@" in name:
        lock, _, order = name.rpartition("@")
        orders = [one for one in _holders(lock) if one == order]
    if not orders:
        raise SubjectUnknown(
            f"Nobody keeps {name[:200]!r}; write it as lock:customer:C-17, or with its holder as "
            "lock:customer:C-17@O-17."
        )
    if len(orders) > 1:
        raise SubjectUnknown(
            f"{lock} is kept by several orders: name one of them, as lock:{lock}@{orders[0]} "
            f"({named(orders)})."
        )
    return _of_lock(lock, order_found(name=orders[0]))


def _of_lock(lock: str, its: Found) -> Found:
    subject = f"lock:{lock}@{its.subject.removeprefix('order:')}"
    return Found(
        subject=subject,
        pk=0,
        context=replace(its.context, subject=subject),
        fulfillment_ids=its.fulfillment_ids,
    )


def _holders(lock: str) -> list[str]:
    """References of the orders that keep it."""
    kept = ResourceLock.objects.filter(name=lock)
    orders = Fulfillment.objects.filter(pk__in=kept.values("fulfillment_id"))
    return sorted(orders.values_list("order_reference", flat=True))


def _named(found: Found) -> tuple[str, str]:
    """The lock, and the order that keeps it."""
    lock, _, order = found.subject.removeprefix("lock:").rpartition("@")
    return lock, order


def _kept(found: Found) -> Sequence[ResourceLock]:
    lock, _ = _named(found)
    rows = ResourceLock.objects.filter(name=lock, fulfillment__in=found.fulfillment_ids)
    return list(rows.order_by("pk"))


def _all_of(task_ids: set[int], plan_ids: set[int]) -> set[str]:
    """All that these keep by the same right."""
    of_tasks = ResourceLock.objects.filter(task__in=task_ids)
    of_plans = ResourceLock.objects.filter(plan__in=plan_ids, task=None)
    return {row.name for rows in (of_tasks, of_plans) for row in rows}


def _in_doubt(unit: Unit, task_ids: set[int], plan_ids: set[int]) -> set[str]:
    """Of what needs the lock: the tasks that keep it, or all of the plans that do."""
    tasks = [*tasks_by_id(unit.raw, task_ids), *tasks_by_plan(unit.raw, plan_ids)]
    unit.adopt_tasks(tasks)
    unit.adopt_plans(plans_by_id(unit.raw, {task.plan_id for task in tasks}))
    return anew.in_doubt(unit, tasks=[unit.tasks[task.id] for task in tasks])
