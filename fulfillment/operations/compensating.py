"""Undoing what one task has done, while its order goes on (reference §14, §29)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from fulfillment.actions import Action
from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.definitions.nodes import Node
from fulfillment.engine.plans import anew, repairing, undoing
from fulfillment.engine.store import graphs
from fulfillment.engine.structure import undo_payloads
from fulfillment.engine.work.rows import tasks_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import FulfillmentError, NotPossible
from fulfillment.models import CaseTask, Command, FalloutCase, Plan, Task
from fulfillment.operations import plans
from fulfillment.operations.repair import CameAbout, Done, Found, Parameters, Repair, Why
from fulfillment.operations.showing import fates_table
from fulfillment.operations.subjects import (
    context_of,
    newest_plan,
    task_found,
    task_version,
    tasks_found,
)
from fulfillment.states import TASK_TERMINAL, TaskState

_HAS_BEEN_DONE = frozenset({TaskState.SUCCEEDED, TaskState.FAILED_FINAL})
"""Or tried: to try it again takes the same authority."""


class Compensation(Parameters):
    and_then: Literal["redo", "leave"] = Field(
        "redo",
        description="Afterwards it is done again; or it is left, and counts as waived.",
    )
    outputs: dict[str, JsonValue] = Field(
        {}, description="Of what is left: the values that later tasks use instead of its own."
    )
    command_id: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="An earlier command of the task, which another has taken the place of and "
        "which was done after all: this is undone, and the task stays as it is.",
    )
    returned: dict[str, JsonValue] = Field(
        {}, description="What that command has returned, where nobody has told the engine."
    )


class CompensateTask(Repair):
    """Its declared undo is a task of the next plan, with what has used its results before it."""

    action = Action.PLAN_COMPENSATE
    kind = "compensate"
    about = "task"
    parameters = Compensation
    needs_evidence = True

    def find(self, *, name: str) -> Found:
        return task_found(name=name)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return tasks_found(pks=pks)

    def implies(self, parameters: Compensation) -> tuple[Action, ...]:
        return (Action.TASK_WAIVE,) if parameters.and_then == "leave" else ()

    def aim(self, found: Found, parameters: Compensation) -> Found:
        """What is undone before it, and done again after it, is reached by it as well, and so are
        the systems that undo all of that."""
        nodes = _reached(found, parameters)
        undos = {node.compensation.target for node in nodes if node.compensation is not None}
        targets = found.context.targets | undos.union(node.target for node in nodes) - {""}
        if targets == found.context.targets and len(nodes) <= 1:
            return found
        task = Task.objects.select_related("plan", "fulfillment").get(pk=found.pk)
        own = graphs.by_id(task.plan.graph_id).nodes[task.node]
        context = context_of(
            subject=found.subject,
            order=task.fulfillment,
            plan=task.plan,
            targets=targets,
            positions={position for node in (own, *nodes) for position in node.items},
        )
        return replace(found, context=context)

    def version(self, unit: Unit, found: Found) -> str:
        newest = newest_plan(found.fulfillment_ids[0])  # The one that it would be undone in.
        return f"{task_version(unit, found)} {newest.pk if newest else 0}"

    def carry_out(self, unit: Unit, found: Found, parameters: Compensation, why: Why) -> Done:
        unit.adopt_tasks(tasks_by_id(unit.raw, [found.pk]))
        task = unit.tasks[found.pk]
        plan = plans.running_plan(unit, task.fulfillment_id)
        if task.plan_id != plan.pk:
            raise NotPossible(
                f"{task.key} has stayed behind with plan {task.plan_id}: what it did is undone "
                "already, or stays."
            )
        if graphs.by_id(plan.graph_id).nodes[task.node].undoes:
            raise NotPossible(f"{task.key} undoes something itself, and is not undone again.")
        if parameters.command_id is None:
            return _undo_task(unit, plan, task, parameters, why)
        command = Command.objects.filter(pk=parameters.command_id, task=task.pk).first()
        if command is None:
            raise NotPossible(f"{task.key} has no command {parameters.command_id}.")
        return _undo_command(unit, plan, task, command, parameters, why)

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        """Once the undo itself has succeeded: it is a task like any other."""
        asked = {task.pk: task for task in Task.objects.filter(pk__in=pks)}
        undos = Task.objects.filter(
            fulfillment__in={task.fulfillment_id for task in asked.values()},
            key__startswith="undo.v",
        ).order_by("pk")
        newest = {(one.fulfillment_id, _undone_key(one)): one for one in undos}
        found = {}
        for pk, task in asked.items():
            undo = newest.get((task.fulfillment_id, task.key))
            if undo is not None:
                is_so = undo.state == TaskState.SUCCEEDED if undo.state in TASK_TERMINAL else None
                found[pk] = CameAbout(is_so=is_so, told=f"{undo.key} is {undo.state}.")
        return found


def _reached(found: Found, parameters: Compensation) -> list[Node]:
    """What is undone, or tried again, by it as it is now; what refuses it says so when it is
    done."""

    def look(unit: Unit) -> list[Node]:
        unit.adopt_tasks(tasks_by_id(unit.raw, [found.pk]))
        task = unit.tasks[found.pk]
        plan = plans.running_plan(unit, task.fulfillment_id)
        if task.plan_id != plan.pk:
            return []
        if parameters.command_id is not None:
            command = Command.objects.filter(pk=parameters.command_id, task=task.pk).first()
            return [] if command is None else [_overtaken(plan, task, command)[1]]
        wanted = anew.wanted(plan, graph=anew.same_graph(plan), begin_anew={task.key})
        fates = undoing.assess(unit, plan=plan, wanted=wanted).fates
        touched = {one.key for one in fates if one.becomes in (Becomes.UNDONE, Becomes.REDONE)}
        return [
            graphs.routed(plan.graph_id, one.node, one.route)
            for one in unit.tasks.values()
            if one.key in touched and one.state in _HAS_BEEN_DONE
        ]

    with suppress(FulfillmentError):
        return run_unit(look, fulfillment_ids=(), actor="")
    return []


def _undone_key(undo: Task) -> str:
    """Of the task that it is about, or whose command."""
    return undo.key.partition("/")[2].partition("~command")[0]


def _undo_task(unit: Unit, plan: Plan, task: Task, parameters: Compensation, why: Why) -> Done:
    node = graphs.routed(plan.graph_id, task.node, task.route)
    _check_is_undoable(unit, task, node)
    wanted = anew.wanted(plan, graph=anew.same_graph(plan), begin_anew={task.key})
    assessment = undoing.assess(unit, plan=plan, wanted=wanted)
    plans.check(assessment)
    successor = undoing.carry_out(
        unit,
        plan=plan,
        wanted=wanted,
        assessment=assessment,
        reason=f"{task.key} is undone by hand: {why.reason}",
    )
    told = [f"{task.key} is undone{_way(node)}, and then done again."]
    if parameters.and_then == "leave":
        _leave(unit, successor, task, parameters, why)
        told = [f"{task.key} is undone{_way(node)}, and left so: it counts as waived."]
    with_it = [key for key in plans.becoming(assessment.fates, Becomes.REDONE) if key != task.key]
    if with_it:
        told.append(f"With it begins anew what has used its results: {plans.named(with_it)}.")
    return _done(plan, successor, assessment, " ".join(told), before={"state": str(task.state)})


def _undo_command(
    unit: Unit, plan: Plan, task: Task, command: Command, parameters: Compensation, why: Why
) -> Done:
    route, way = _overtaken(plan, task, command)
    name = f"{task.key}~command{command.revision}"
    _check_is_not_undone(task, name)
    key = f"undo.v{plan.version + 1}/{name}"
    returned = {**_told_of(task, command), **parameters.returned}
    asks = undo_payloads.of_way(unit, plan=plan, task=task, way=way, returned=returned)
    wanted = anew.with_undo_of(plan, task=task, route=route, key=key, about=name, asks=asks)
    assessment = undoing.assess(unit, plan=plan, wanted=wanted)
    plans.check(assessment)
    successor = undoing.carry_out(
        unit,
        plan=plan,
        wanted=wanted,
        assessment=assessment,
        reason=f"what command {command.pk} of {task.key} did is undone by hand: {why.reason}",
    )
    told = f"What command {command.pk} did ({command.target_id} {command.action}) is undone"
    told += f"{_way(way)}; {task.key} stays {task.state}."
    if "error" in asks:
        told += f" Somebody has to say what it asks for: {asks['error']}"
    return _done(
        plan, successor, assessment, told, before={"command": command.pk, "state": str(task.state)}
    )


def _check_is_undoable(unit: Unit, task: Task, node: Node) -> None:
    """Raises NotPossible and OutcomeInDoubt."""
    if anew.in_doubt(unit, tasks=[task]):
        plans.raise_in_doubt([task.key])
    if task.state != TaskState.SUCCEEDED:
        raise NotPossible(f"{task.key} is {task.state}: only what is done can be undone.")
    if task.element:
        raise NotPossible(
            f"{task.key} is one of a list, which is undone as a whole: plan the rest anew, with "
            "the beginning of the list to be done again (plan.regenerate)."
        )
    _check_has_undo(task, node)


def _check_has_undo(task: Task, way: Node) -> None:
    """Raises NotPossible with the reason that its workflow gives."""
    if way.compensation is None:
        why = way.no_compensation or "Its workflow says of no way to."
        raise NotPossible(f"{task.key} can't be undone. {why}")


def _overtaken(plan: Plan, task: Task, command: Command) -> tuple[int, Node]:
    """The way of the task by which the command went. Raises NotPossible."""
    newer = Command.objects.filter(task=task.pk, revision__gt=command.revision).exists()
    if not newer and task.state != TaskState.FAILED_FINAL:
        raise NotPossible(
            f"Command {command.pk} is the one by which {task.key} is {task.state}: leave "
            "command_id out to undo the task itself."
        )
    ways = range(len(graphs.by_id(plan.graph_id).nodes[task.node].fallbacks) + 1)
    for route in ways:
        way = graphs.routed(plan.graph_id, task.node, route)
        if (way.target, way.action) == (command.target_id, command.action):
            _check_has_undo(task, way)
            return route, way
    raise NotPossible(
        f"The workflow of {task.key} knows {command.target_id} {command.action} no more, nor how "
        "it is undone. Have it undone there by hand."
    )


def _check_is_not_undone(task: Task, name: str) -> None:
    """Raises NotPossible: what has been undone is not undone again."""
    undone = Task.objects.filter(
        fulfillment=task.fulfillment_id, key__startswith="undo.v", key__endswith=f"/{name}"
    )
    known = undone.exclude(state=TaskState.CANCELLED).first()
    if known is not None:
        raise NotPossible(f"{known.key} undoes that already; it is {known.state}.")


def _told_of(task: Task, command: Command) -> dict[str, Any]:
    """What the late answer has told of it, as its case keeps it."""
    cases = FalloutCase.objects.filter(fulfillment=task.fulfillment_id).order_by("-pk")
    joined = CaseTask.objects.filter(case__in=cases, task=task.pk).order_by("-pk")
    known = [case.facts for case in cases.filter(task=task.pk)] + [one.facts for one in joined]
    for facts in known:
        told = facts.get(f"done_after_all_{command.revision}")
        if told is not None:
            return dict(told.get("outputs", {}))
    return {}


def _leave(unit: Unit, plan: Plan, task: Task, parameters: Compensation, why: Why) -> None:
    """The one that has begun anew in its place counts as waived. Raises NotPossible."""
    (again,) = (
        one
        for one in unit.tasks.values()
        if one.plan_id == plan.pk and one.key == task.key and not one.round
    )
    repairing.waive(
        unit,
        task_id=again.pk,
        outputs=parameters.outputs,
        cause=f"undone by hand, and left so: {why.reason}",
        details={"evidence": why.evidence[:1000], "undone": task.pk},
    )


def _way(node: Node) -> str:
    assert node.compensation is not None
    return f" by {node.compensation.target} {node.compensation.action}"


def _done(
    plan: Plan, successor: Plan, assessment: Assessment, told: str, *, before: dict[str, Any]
) -> Done:
    fates = assessment.fates
    return Done(
        told=told,
        before={"plan": plan.pk, **before},
        after={"plan": successor.pk, "tasks": plans.fates_document(fates)},
        customer_impact=plans.customer_impact(plans.undone(fates)),
        financial_impact=plans.financial_impact(assessment),
        result={"plan": successor.pk},
        tables=(fates_table(fates=fates),),
    )
