"""billing-on-milestone: billing starts only behind its explicit milestone (reference §26).

Checked when a template is published, over the tasks and what is certainly behind each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fulfillment.errors import Fault

if TYPE_CHECKING:
    from fulfillment.definitions.schema import WorkflowDefinition

_BY_MILESTONE = frozenset({"shipment", "installation_complete", "service_activation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A task as this check sees it.

    `after` are the tasks that it waits for in any case: a dependency on a condition, or on a
    branch that may not come to exist, is none of them.
    """

    after: frozenset[str] = frozenset()
    waits_for_time: bool = False
    """It waits for an instant, itself or by its dependencies."""
    is_manual: bool = False
    """A person decides it, in any case."""
    may_be_skipped: bool = False
    """It runs on a condition only: what waits for it goes on without it having been done."""


def upstream(*, steps: Mapping[str, Step], of: str) -> frozenset[str]:
    """Every task that has certainly ended before `of` may start; cycles are told elsewhere."""
    found: set[str] = set()
    ahead = list(steps[of].after)
    while ahead:
        name = ahead.pop()
        if name in steps and name not in found:
            found.add(name)
            ahead.extend(steps[name].after)
    return frozenset(found)


def trigger_fault(
    *, trigger: str, task: str, milestone: str | None, reached_by: str, steps: Mapping[str, Step]
) -> tuple[str, str]:
    """(member of `billing`, what is wrong) when `task` could bill before its trigger, or ("", "").

    `reached_by` is the task that reaches `milestone`.
    """
    before = {name for name in upstream(steps=steps, of=task) if not steps[name].may_be_skipped}
    if trigger in _BY_MILESTONE and milestone is None:
        return "milestone", f"With the trigger {trigger}, name the milestone that billing follows."
    if milestone is not None and reached_by not in before:
        return "task", (
            f"{task} may run before the milestone {milestone} is reached: make it depend on "
            f"{reached_by}, directly or through others, and neither on a condition."
        )
    if trigger == "contract_effective_date" and not (
        steps[task].waits_for_time or any(steps[name].waits_for_time for name in before)
    ):
        return "task", (
            f"{task} doesn't wait for the contract's date: let it, or a task before it, wait "
            "until an instant."
        )
    if trigger == "manual_verification" and not any(steps[name].is_manual for name in before):
        return "task", f"No person decides before {task}: let it depend on a manual task."
    return "", ""


def billing_faults(definition: WorkflowDefinition) -> list[Fault]:
    """What is wrong with `billing`; a workflow without it bills nothing."""
    billing, trigger = definition.billing, definition.billing_trigger
    if billing is None or trigger is None:
        return []

    def fault(code: str, member: str, message: str) -> list[Fault]:
        return [Fault(code=f"definition.{code}", path=f"billing.{member}", message=message)]

    unknown: list[Fault] = []
    if billing.task not in definition.tasks:
        unknown += fault("unknown_task", "task", f"There is no task {billing.task!r}.")
    reached_by = ""
    if billing.milestone is not None:
        spec = definition.milestones.get(billing.milestone)
        if spec is None:
            message = f"There is no milestone {billing.milestone!r}."
            unknown += fault("unknown_milestone", "milestone", message)
        else:
            reached_by = spec.reached_by
    if unknown:
        return unknown
    member, message = trigger_fault(
        trigger=trigger.value,
        task=billing.task,
        milestone=billing.milestone,
        reached_by=reached_by,
        steps={name: _step(task) for name, task in definition.tasks.items()},
    )
    return fault("billing_before_milestone", member, message) if message else []


def _step(task: Any) -> Step:
    """Members that not every kind of task or dependency has count as absent."""
    certain = () if getattr(task, "join", None) == "deferred" else task.depends_on
    return Step(
        after=frozenset(
            name
            for dependency in certain
            if getattr(dependency, "when", None) is None
            for name in [getattr(dependency, "task", None) or getattr(dependency, "after", None)]
            if name
        ),
        waits_for_time=getattr(getattr(task, "wait", None), "until", None) is not None
        or any(getattr(dependency, "until", None) is not None for dependency in task.depends_on),
        may_be_skipped=getattr(task, "only_if", None) is not None,
        is_manual=_is_decided_by_a_person(getattr(task, "manual", None)),
    )


def _is_decided_by_a_person(manual: Any) -> bool:
    """Not when it proceeds by itself once nobody has decided in time."""
    return manual is not None and manual.outcomes.get(manual.otherwise) != "proceed"
