"""Giving a plan up, or changing what it is for: assessed, and carried out (reference §14, §20).

A preview and the execution call the same `assess`; `carry_out` does what it has said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from fulfillment.definitions.assessment import Assessment, Becomes, Fate, Refusal
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.migration import Comparison, Had, compare
from fulfillment.definitions.node_parts import Impact, NodeKind
from fulfillment.definitions.nodes import Node
from fulfillment.definitions.readiness import Place
from fulfillment.definitions.revision import Revision, revise
from fulfillment.engine.plans import migrating, withholding
from fulfillment.engine.plans.completion import end
from fulfillment.engine.plans.concern import Wanted, concerned
from fulfillment.engine.plans.migrating import Next
from fulfillment.engine.plans.planning import faults_of_new
from fulfillment.engine.protection import doubt
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import money, undo_payloads
from fulfillment.engine.structure.scope import read_ahead
from fulfillment.engine.work.port import Notice, PlanChange
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan, Task
from fulfillment.states import PLAN_GOING_ON, PlanState, TaskState

_TOUCHES = frozenset({Becomes.UNDONE, Becomes.REDONE})
_SHOWN = frozenset({NodeKind.COMMAND, NodeKind.MANUAL, NodeKind.WAIT})
"""The rest is the engine's own frame around these."""


def assess(
    unit: Unit,
    *,
    plan: Plan,
    wanted: Wanted | None,
    bundles: Collection[Collection[int]] = (),
    only: Collection[str] = (),
) -> Assessment:
    """What would become of an active plan; changes nothing. None: it is given up as a whole.

    `bundles` are positions of items that belong together: the point of no return of one is that
    of all. `only` are the names of the tasks that are undone when all is given up, if not all are.
    """
    if plan.state not in PLAN_GOING_ON:
        message = f"Its plan is {plan.state}: nothing of it can be changed any more."
        return Assessment(
            fates=(),
            charges=(),
            refusals=(Refusal(code="being_undone", message=message),),
            in_flight=(),
        )
    tasks = migrating.tasks_of(unit, plan=plan)
    read_ahead(unit, plan=plan)
    revision = _revision(unit, plan, tasks, wanted, only)
    given_up = [task for task in tasks if _place(task) in revision.given_up]
    touched = [task for task in given_up if revision.becomes[_place(task)] in _TOUCHES]
    before = graphs.by_id(plan.graph_id)
    refusals = _points_of_no_return(
        before, tasks, revision, bundles, whole=wanted is None, only=only
    )
    awaited = set(revision.unsettled)
    if wanted is not None:
        found = _comparison(plan, tasks, revision)
        refusals += _of_the_new_plan(unit, plan, tasks, revision, found)
        awaited |= found.unsettled.keys()
    elif revision.graph.nodes:
        refusals += _not_plannable(revision)
    return Assessment(
        fates=tuple(_fates(before, tasks, revision)),
        charges=tuple(money.charges(unit, plan=plan, tasks=touched)),
        refusals=tuple(refusals),
        in_flight=tuple(task.key for task in tasks if _place(task) in awaited),
    )


def carry_out(
    unit: Unit,
    *,
    plan: Plan,
    wanted: Wanted | None,
    assessment: Assessment,
    reason: str,
    ends_as: PlanState = PlanState.CANCELLED,
    only: Collection[str] = (),
) -> Plan:
    """Another plan takes its place, with what has to be undone, and what was held back goes on.

    `assessment` is what `assess` has just said in this unit; it refuses nothing, and is at rest.
    With `wanted` None the new plan is COMPENSATING and ends as `ends_as` says. When there is
    nothing to undo, this plan itself ends so, at once. Returns the plan that is in place now.
    """
    assert not assessment.refusals
    assert assessment.is_at_rest
    tasks = migrating.tasks_of(unit, plan=plan)
    revision = _revision(unit, plan, tasks, wanted, only)
    giving_up, what = plan.giving_up, withholding.what_of(plan)
    withholding.forget(unit, plan=plan)
    withholding.let_go_on(unit, plan=plan, reason=reason)
    if wanted is None and not revision.graph.nodes:
        _tell(unit, plan, PlanChange.UNDOING)
        migrating.withdraw(unit, tasks=tasks, cause=reason)
        end(unit, plan=plan, ends_as=ends_as, cause=reason)
        return plan
    by_place = {_place(task): task for task in tasks}
    context = dict(graphs.context_of(plan) if wanted is None else wanted.context)
    asks = {
        **undo_payloads.of_plan(plan),
        **context.get("undo", {}).get("asks", {}),  # Of undos that somebody asks for by hand.
        **{
            undo.key: undo_payloads.of_task(unit, plan=plan, task=by_place[undo.place])
            for undo in revision.undos
        },
    }
    context["undo"] = {"asks": asks}
    if wanted is None:
        context["undo"]["ends_as"] = str(ends_as)
    successor = migrating.take_over(
        unit,
        plan=plan,
        graph=revision.graph,
        comparison=_comparison(plan, tasks, revision),
        reason=reason,
        following=Next(
            context=context,
            order_version=plan.order_version if wanted is None else wanted.order_version,
            is_undoing=wanted is None,
            due_at=_promised(plan, wanted),
        ),
    )
    _tell(unit, successor, PlanChange.UNDOING if wanted is None else PlanChange.AMENDED)
    if giving_up and wanted is not None:
        kept = migrating.tasks_of(unit, plan=successor)
        # Somebody has changed the order meanwhile, and that may not have mended what has failed.
        if withholding.is_still_due(unit, plan=successor, what=what, tasks=kept):
            withholding.give_up(unit, plan=successor, reason=giving_up, what=what)
    return successor


def _revision(
    unit: Unit,
    plan: Plan,
    tasks: Sequence[Task],
    wanted: Wanted | None,
    only: Collection[str],
) -> Revision:
    sent = [task.id for task in tasks if task.sends]
    failed = [task.id for task in tasks if task.state == TaskState.FAILED_FINAL]
    in_doubt = doubt.in_doubt(unit.raw, task_ids=sent)
    in_doubt |= doubt.contradicted(unit.raw, task_ids=failed)
    return revise(
        before=graphs.by_id(plan.graph_id),
        tasks=[_had(task) for task in tasks],
        after=None if wanted is None else wanted.graph,
        version=plan.version + 1,
        concerned=() if wanted is None else concerned(unit, plan=plan, tasks=tasks, wanted=wanted),
        doubtful={_place(task) for task in tasks if task.id in in_doubt},
        only=only,
    )


def _comparison(plan: Plan, tasks: Sequence[Task], revision: Revision) -> Comparison:
    return compare(
        before=graphs.by_id(plan.graph_id),
        after=revision.graph,
        tasks=[_had(task) for task in tasks],
        given_up=revision.given_up,
        told=False,
    )


def _not_plannable(revision: Revision) -> list[Refusal]:
    faults = faults_of_new(graph=revision.graph)
    return [Refusal(code="not_plannable", message=fault.message) for fault in faults]


def _of_the_new_plan(
    unit: Unit, plan: Plan, tasks: Sequence[Task], revision: Revision, found: Comparison
) -> list[Refusal]:
    """Why the revised order can't go on from here."""
    faults = _not_plannable(revision)
    if faults:
        return faults
    # What only stands in the way until it has ended is waited for.
    unsafe = [message for message in found.unsafe if message not in found.unsettled.values()]
    return [
        *(Refusal(code="unsafe", message=message) for message in unsafe),
        *(
            Refusal(code="hold_lost", message=message)
            for message in migrating.lost_holds(unit, plan=plan, tasks=tasks, left=found.left)
        ),
        *(
            Refusal(code="lock_in_use", message=message)
            for message in migrating.locks_in_use(unit, plan=plan, graph=revision.graph)
        ),
    ]


def _points_of_no_return(
    before: Graph,
    tasks: Sequence[Task],
    revision: Revision,
    bundles: Collection[Collection[int]],
    *,
    whole: bool,
    only: Collection[str],
) -> list[Refusal]:
    """Hard ones that have been passed, of what would be undone or done again.

    Of an item past one nothing that has been done can be changed, and of its bundle neither.
    Where only some tasks are undone, the others stay as they are.
    """
    done = [
        task
        for task in tasks
        if task.state == TaskState.SUCCEEDED
        and (not only or before.nodes[task.node].task.removesuffix("~element") in only)
    ]
    given_up = {_place(task) for task in done} & revision.given_up
    touched = {
        position
        for task in done
        if _place(task) in given_up
        for position in _with_bundles([before.nodes[task.node].item or 0], bundles)
    }
    passed = [
        node
        for task in done
        if (node := before.nodes[task.node]).is_final
        and (_place(task) in given_up or (not whole and node.item in touched))
    ]
    return [
        Refusal(
            code="irreversible" if node.irreversible else "point_of_no_return",
            message=_why_final(node),
            task=node.key,
            items=_with_bundles(node.items, bundles),
        )
        for node in {node.key: node for node in passed}.values()
    ]


def _with_bundles(items: Collection[int], bundles: Collection[Collection[int]]) -> tuple[int, ...]:
    mine = set(items)
    for bundle in bundles:
        if mine & set(bundle):
            mine |= set(bundle)
    return tuple(sorted(mine))


def _why_final(node: Node) -> str:
    if node.point_of_no_return is not None:
        return f"{node.title} is done, and that is final: {node.point_of_no_return.reason}"
    reason = f" {node.no_compensation}" if node.no_compensation else ""
    return f"{node.title} is done, and can't be undone.{reason}"


def _fates(graph: Graph, tasks: Sequence[Task], revision: Revision) -> Iterator[Fate]:
    unsettled = set(revision.unsettled)
    for task in tasks:
        node = graph.nodes[task.node].by(task.route)
        if node.kind not in _SHOWN:
            continue
        becomes = revision.becomes[_place(task)]
        undo = node.compensation if becomes in _TOUCHES else None
        impact = _impact(node, becomes)
        yield Fate(
            key=task.key,
            title=node.title,
            becomes=becomes,
            items=node.items,
            is_done=task.state == TaskState.SUCCEEDED or _place(task) in unsettled,
            undo="" if undo is None else f"{undo.target} {undo.action}",
            why=_why(task, node, becomes, is_unsettled=_place(task) in unsettled),
            customer_impact=impact.customer,
            financial_impact=impact.financial,
            legal_impact=impact.legal,
        )
    had = {graph.nodes[task.node].key for task in tasks}
    for node in revision.graph.nodes:
        if node.key not in had and not node.undoes and node.kind in _SHOWN:
            yield Fate(key=node.key, title=node.title, becomes=Becomes.NEW, items=node.items)


def _impact(node: Node, becomes: Becomes) -> Impact:
    """Of undoing it, or of what stays because nothing undoes it."""
    undo = node.compensation
    if becomes is Becomes.STAYS:
        return node.lasting_impact or Impact()
    if undo is None or becomes not in _TOUCHES:
        return Impact()
    return Impact(
        customer=undo.customer_impact, financial=undo.financial_impact, legal=undo.legal_impact
    )


def _why(task: Task, node: Node, becomes: Becomes, *, is_unsettled: bool) -> str:
    if is_unsettled:
        return "Whether it is done has to be known first."
    if becomes is Becomes.STAYS:
        return node.no_compensation
    if becomes is Becomes.WITHDRAWN:
        return "It has had no effect."
    if becomes is Becomes.REDONE and task.state == TaskState.SUCCEEDED:
        return "It is undone and done again." if node.compensation else "It is done again."
    return ""


def _promised(plan: Plan, wanted: Wanted | None) -> datetime | None:
    """A revised order may have been promised for another time; otherwise it stays as it is."""
    if wanted is None:
        return None
    promised = wanted.context["order"].get("promised_at")
    if promised == graphs.context_of(plan)["order"].get("promised_at"):
        return plan.due_at
    return None if promised is None else datetime.fromisoformat(promised)


def _had(task: Task) -> Had:
    return Had(
        node=task.node,
        element=task.element,
        state=TaskState(task.state),
        attempts=task.attempts,
        route=task.route,
        sends=task.sends,
        outputs=task.outputs,
        is_asked=task.state == TaskState.AWAITING_MANUAL or bool(task.awaits),
    )


def _place(task: Task) -> Place:
    return task.node, task.element


def _tell(unit: Unit, plan: Plan, change: PlanChange) -> None:
    unit.notices.append(
        Notice(
            fulfillment_id=plan.fulfillment_id,
            plan_id=plan.pk,
            graph_id=plan.graph_id,
            change=change,
        )
    )
