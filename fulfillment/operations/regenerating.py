"""Planning the rest of an order anew: what is done stays, what is open begins anew (§29)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Literal

from django.db.models import Q, QuerySet
from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import MONEY
from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.definitions.graph import Graph
from fulfillment.engine.plans import anew, migrating, undoing
from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import EvidenceMissing, FulfillmentError, NotPossible
from fulfillment.models import ManualState, ManualTask, Plan, Task
from fulfillment.operations import plans
from fulfillment.operations.migrating import graph_by
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.operations.showing import fates_table
from fulfillment.operations.subjects import newest_plan, order_found
from fulfillment.pinning import published, versions_of
from fulfillment.states import TASK_SUCCESSFUL, TaskState

_MAY_BEGIN_ANEW = frozenset(
    {
        TaskState.READY,
        TaskState.FAILED_RETRYABLE,
        TaskState.AWAITING_MANUAL,
        TaskState.FAILED_FINAL,
        TaskState.SUCCEEDED,
        TaskState.SKIPPED_BY_POLICY,
        TaskState.WAIVED_BY_AUTHORIZED_USER,
        TaskState.ACCEPTED,
    }
)
"""ACCEPTED is what only waits; a command in it is under way, and that is said before."""


class Regeneration(Parameters):
    workflows: Literal["same", "newest"] = Field(
        "same", description="By which versions: those that its plan has, or the newest ones."
    )
    redo: Annotated[list[str], Field(max_length=200)] = Field(
        [], description="Keys of tasks that are done, and undone and done again."
    )


class RegeneratePlan(Repair):
    """Its next plan has what is done, and everything that is open from its beginning."""

    action = Action.PLAN_REGENERATE
    kind = "regenerate_plan"
    about = "order"
    parameters = Regeneration

    def find(self, *, name: str) -> Found:
        return order_found(name=name)

    def aim(self, found: Found, parameters: Regeneration) -> Found:
        """What is done is undone by it: that is a compensation, by whatever name."""
        done = _tasks(found).filter(key__in=parameters.redo, state__in=sorted(TASK_SUCCESSFUL))
        return replace(found, implies=(Action.PLAN_COMPENSATE,)) if done.exists() else found

    def needs(self, found: Found, parameters: Regeneration, actor: Actor) -> Action | None:
        """What has failed to charge is tried again by it; of a list nothing is."""
        failed = Q(state=TaskState.FAILED_FINAL, element=0) | Q(key__in=parameters.redo)
        charging = _tasks(found).filter(failed, target__domain__in=sorted(MONEY))
        return Action.APPROVE_PAYMENT if charging.exists() else None

    def version(self, unit: Unit, found: Found) -> str:
        return plans.order_version(unit, found)

    def is_offered(self, found: Found) -> bool:
        return plans.goes_on(found)

    def carry_out(self, unit: Unit, found: Found, parameters: Regeneration, why: Why) -> Done:
        if found.implies and not why.evidence:
            raise EvidenceMissing("Say why what is done has to be undone, and where that is seen.")
        plan = plans.running_plan(unit, found.pk)
        before = graphs.by_id(plan.graph_id)
        graph = _graph(plan, newest=parameters.workflows == "newest")
        redo = set(parameters.redo)
        _check_redo(unit, plan, redo)
        begin = anew.open_anew(unit, plan=plan, graph=graph) | redo
        if not begin and versions_of(graph) == versions_of(before):
            raise NotPossible(
                "Nothing of it would begin anew: what is open has not begun, or is under way. Name "
                "what shall be done again (`redo`), or plan it by the newest workflows."
            )
        _check_no_quote_is_awaited(found, begin)
        wanted = anew.wanted(plan, graph=graph, begin_anew=begin)
        assessment = undoing.assess(unit, plan=plan, wanted=wanted)
        _check_what_is_done_stays(assessment)
        plans.check(assessment)
        successor = undoing.carry_out(
            unit,
            plan=plan,
            wanted=wanted,
            assessment=assessment,
            reason=f"planned anew by hand: {why.reason}",
        )
        fates = assessment.fates
        again = [one.key for one in fates if one.is_done and one.becomes is Becomes.REDONE]
        return Done(
            told=_told(assessment, again),
            before={"plan": plan.pk, "workflows": versions_of(before)},
            after={
                "plan": successor.pk,
                "workflows": versions_of(graph),
                "tasks": plans.fates_document(fates),
            },
            customer_impact=plans.customer_impact(plans.undone(fates)),
            financial_impact=plans.financial_impact(assessment),
            result={"plan": successor.pk},
            tables=(fates_table(fates=fates),),
        )


def _check_no_quote_is_awaited(found: Found, begin: Collection[str]) -> None:
    """Whose question ends takes its hold along, and the order would go on without the quote."""
    rows = ManualTask.objects.filter(fulfillment=found.pk, task__key__in=begin)
    awaited = rows.filter(state=ManualState.AWAITING_CUSTOMER, hold__isnull=False).first()
    if awaited is not None:
        raise NotPossible(
            f"{awaited.title} waits for a new quote, and hold {awaited.hold_id} keeps the order "
            "until then. Amend the order by the quote, or release the hold; then plan it anew."
        )


def _tasks(found: Found) -> QuerySet[Task]:
    """Of the plan that it goes by."""
    plan = newest_plan(found.pk)
    return Task.objects.none() if plan is None else Task.objects.filter(plan=plan, round=0)


def _graph(plan: Plan, *, newest: bool) -> Graph:
    """Raises NotPossible when it can't go on by the newest workflows."""
    same = anew.same_graph(plan)
    if not newest:
        return same
    versions = {name: published(name, None).version for name in versions_of(same)}
    if versions == versions_of(same):
        return same
    if graphs.context_of(plan).get("given_up"):
        raise NotPossible("A part of it has failed and is given up: it stays with its workflows.")
    try:
        return graph_by(plan=plan, versions=versions)
    except FulfillmentError as error:
        raise NotPossible(f"It can't be planned by the newest workflows: {error}") from None


def _check_redo(unit: Unit, plan: Plan, redo: set[str]) -> None:
    """Raises NotPossible for what can't begin anew, OutcomeInDoubt for what is under way."""
    tasks = {task.key: task for task in migrating.tasks_of(unit, plan=plan)}
    unknown = sorted(redo - tasks.keys())
    if unknown:
        raise NotPossible(f"Its plan has no task {plans.named(unknown)}.")
    mine = [tasks[key] for key in redo]
    undoing_nodes = graphs.by_id(plan.graph_id).undoing
    if undos := [task.key for task in mine if task.node in undoing_nodes]:
        raise NotPossible(f"What undoes something is not done again: {plans.named(undos)}.")
    if under_way := anew.in_doubt(unit, tasks=mine):
        plans.raise_in_doubt(under_way)
    if others := [task.key for task in mine if task.state not in _MAY_BEGIN_ANEW]:
        raise NotPossible(f"This has not begun, so it can't begin anew: {plans.named(others)}.")


def _check_what_is_done_stays(assessment: Assessment) -> None:
    """Raises NotPossible."""
    lost = [one.key for one in assessment.fates if one.is_done and one.becomes is Becomes.UNDONE]
    if lost:
        raise NotPossible(
            f"The newest workflows don't know what is done: {plans.named(lost)}. What is done "
            "stays; plan it by the same ones, or undo that first (plan.compensate)."
        )


def _told(assessment: Assessment, again: list[str]) -> str:
    begins = [
        key
        for key in plans.becoming(assessment.fates, Becomes.REDONE, Becomes.NEW)
        if key not in again
    ]
    gone = plans.becoming(assessment.fates, Becomes.WITHDRAWN)
    told = ["The rest is planned anew; what is done stays, what is under way goes on."]
    if begins:
        told.append(f"From its beginning: {plans.named(begins)}.")
    if again:
        told.append(f"Undone and done again: {plans.named(again)}.")
    if gone:
        told.append(f"Not wanted any more: {plans.named(gone)}.")
    return " ".join(told)
