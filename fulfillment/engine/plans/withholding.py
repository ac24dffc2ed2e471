"""A plan that is to be given up or changed sends nothing new until what is under way has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from django.db import transaction

from fulfillment.engine.protection import holds
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate
from fulfillment.engine.work import hints
from fulfillment.engine.work.unit import Unit
from fulfillment.models import ClockPolicy, Hold, HoldScope, Plan, Task
from fulfillment.states import TaskState

_RELEASE = """
UPDATE fulfillment_hold SET released_at = %s, released_by = %s, release_reason = %s
WHERE subject = %s AND released_at IS NULL RETURNING id
"""


def await_rest(unit: Unit, *, plan: Plan, reason: str) -> None:
    """Nothing new of the plan is sent from the commit on; when something that was under way has
    ended, the order desk is asked to decide (`OrderPort.decide`).

    Does nothing where that is so already. No gate has to be closed as for other holds: every
    claim of this plan waits for the fulfillment, which this unit has locked.
    """
    if plan.rest_due_at is not None:
        return
    plan.rest_due_at = unit.now
    unit.clocked_plans.add(plan.pk)
    unit.rests = True
    (hold_id,) = allocate(unit.raw, "fulfillment_hold", 1)
    hold = Hold(
        pk=hold_id,
        scope=HoldScope.CHANGE,
        subject=_subject(plan),
        reason=reason,
        clock_policy=ClockPolicy.RUN,
        placed_by=unit.actor[:150],
        placed_at=unit.now,
    )
    hold.save(force_insert=True)
    _record(unit, plan, hold_id, "place_hold", ("", "PLACED"), reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """What of a plan is given up; by default all of it."""

    only: tuple[str, ...] = ()
    """Names of the tasks that are undone; none: all."""
    items: tuple[int, ...] = ()
    """Positions of the items; none: all."""
    failed: tuple[str, ...] = ()
    """Keys of nodes: nothing is undone, and what stands behind these is not done."""

    @property
    def is_whole(self) -> bool:
        """The plan ends with it."""
        return not self.items and not self.failed

    def with_also(self, other: What) -> What:
        """Both are given up: all of it, where that is said of either."""
        if self.is_whole and other.is_whole:
            some = self.only and other.only
            return What(only=tuple(sorted({*self.only, *other.only}))) if some else ALL
        if self.is_whole or other.is_whole:
            return self if self.is_whole else other
        if (bool(self.failed), bool(self.items)) != (bool(other.failed), bool(other.items)):
            return self  # One after the other: the plan after this one finds what else has failed.
        return What(
            items=tuple(sorted({*self.items, *other.items})),
            failed=tuple(sorted({*self.failed, *other.failed})),
        )


ALL = What()


def give_up(unit: Unit, *, plan: Plan, reason: str, what: What = ALL) -> None:
    """As soon as nothing of it is under way it is undone; what was to be undone before, as well."""
    if plan.giving_up:
        before = what_of(plan)
        what = before.with_also(what)
        if what == before:
            return
        reason = f"{plan.giving_up} {reason}"
    plan.giving_up = reason
    plan.giving_up_what = None if what == ALL else asdict(what)
    unit.clocked_plans.add(plan.pk)
    await_rest(unit, plan=plan, reason=reason)


def what_follows(plan: Plan, *, task: Task) -> What | None:
    """What its workflow has given up when a task fails for good; None: a person decides."""
    graph = graphs.by_id(plan.graph_id)
    node = graph.nodes[task.node]
    if task.node in graph.undoing:
        return None
    # A task of a sub-process goes by the workflow that uses it: the one that serves its items.
    workflow = next(
        (one for one in graph.workflows if not set(one.items).isdisjoint(node.items)), None
    )
    if workflow is None or workflow.on_failure == "hold":
        return None
    of_item = workflow.failure_of == "item" and node.item is not None
    if workflow.on_failure == "continue":
        return What(failed=(node.key,), items=node.items if of_item else ())
    return What(items=node.items if of_item else ())


def what_of(plan: Plan) -> What:
    """As `give_up` has been told."""
    told = plan.giving_up_what or {}
    return What(**{name: tuple(values) for name, values in told.items()})


def is_still_due(unit: Unit, *, plan: Plan, what: What, tasks: Iterable[Task]) -> bool:
    """Whether what had to be given up still has to be, among these tasks of a changed plan."""
    graph = graphs.by_id(plan.graph_id)
    for task in tasks:
        if task.state != TaskState.FAILED_FINAL:
            continue
        node = graph.nodes[task.node]
        outcome = (task.outputs or {}).get("outcome", "")
        if (
            (node.manual is not None and node.manual.outcomes.get(outcome) == "undo")
            or (node.wait is not None and node.wait.otherwise == "undo")
            or (task.required and (what.only or what_follows(plan, task=task) is not None))
        ):
            return True
    return False


def forget(unit: Unit, *, plan: Plan) -> None:
    """What was to be given up of it is, or can't be."""
    plan.giving_up, plan.giving_up_what = "", None
    unit.clocked_plans.add(plan.pk)


def let_go_on(unit: Unit, *, plan: Plan, reason: str) -> None:
    """What `await_rest` has kept back goes on, under this plan or under its successor.

    Does nothing while something of it has to be given up: then it comes to rest in any case.
    """
    if plan.giving_up:
        return
    plan.rest_due_at = None
    unit.clocked_plans.add(plan.pk)
    if not plan.tasks_open:  # What has ended meanwhile was all that there is: it completes now.
        plan.selection_due_at = unit.now
        unit.touched_plans.add(plan.pk)
    unit.raw.execute(_RELEASE, [unit.now, unit.actor[:150], reason, _subject(plan)], prepare=True)
    for (hold_id,) in unit.raw.fetchall():
        _record(unit, plan, hold_id, "release_hold", ("PLACED", "RELEASED"), reason)
        # If this process dies before it, the scanner finds the same tasks.
        transaction.on_commit(_set_going, robust=True)


def _set_going() -> None:
    hints.publish(targets=dict.fromkeys(holds.unpark(), 1), wake_ups={})


def _subject(plan: Plan) -> str:
    return holds.subject_of(scope=HoldScope.CHANGE, name=str(plan.pk))


def _record(
    unit: Unit, plan: Plan, hold_id: int, name: str, states: tuple[str, str], reason: str
) -> None:
    unit.record(
        fulfillment_id=plan.fulfillment_id,
        entity="hold",
        entity_id=str(hold_id),
        name=name,
        before=states[0],
        after=states[1],
        cause=reason,
        details={"subject": _subject(plan)},
    )
