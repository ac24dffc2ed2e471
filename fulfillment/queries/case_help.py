"""What somebody may do about a case, now: operations that help with this kind of trouble, are
possible as its tasks stand, and are allowed to whoever looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.authorizing import Reach
from fulfillment.models import MANUAL_OPEN, CaseTask, FalloutCase, ManualTask, Operation, Transition
from fulfillment.operations.offering import Offer, help_of, title_of
from fulfillment.queries import caseload


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """One of them, on one thing."""

    action: Action
    subject: str
    title: str
    help: str
    needs: Action | None
    """Who else has to approve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseHelp:
    """Those of a case as a whole, and those of each of its tasks."""

    first: Sequence[Help] = ()
    """What is done to the task that the case speaks of, and to the rest of the order."""
    by_task: Mapping[int, Sequence[Help]]


def help_for(*, case: FalloutCase, tasks: Sequence[CaseTask], reach: Reach) -> CaseHelp:
    """For a case and its tasks (`caseload.tasks_of`), and for whoever reaches this far.

    Whether it is allowed is asked for one of the tasks: they are of one order, and one system.
    Whether it is possible is told by the state of each; its form looks at the rest. A fixed number
    of queries.
    """
    helpful = caseload.options([case]).get(case.pk, [])
    still = [one for one in tasks if one.left_at is None]
    speaks = next((one for one in still if one.task_id == case.task_id), None) or next(
        iter(still), None
    )
    offered: dict[Action, Help] = {}
    for subject in _subjects(case, speaks, helpful):
        for offer in operations.offers(reach=reach, subject=subject, among=helpful):
            if offer.is_allowed and offer.is_possible:
                offered[offer.repair.action] = _help(offer, subject)
    return CaseHelp(
        first=[offered[action] for action in helpful if action in offered],
        by_task={one.task_id: list(_beside(one, offered.values())) for one in still},
    )


def _subjects(
    case: FalloutCase, speaks: CaseTask | None, helpful: Sequence[Action]
) -> Iterable[str]:
    """What the helpful operations are about: the task, its hold, the order, the target system."""
    kinds = {operations.repair_of(action).about for action in helpful}
    if speaks is not None:
        yield f"task:{speaks.task_id}"
        if "hold" in kinds and speaks.task.held_by_id is not None:
            yield f"hold:{speaks.task.held_by_id}"
    if "order" in kinds and case.fulfillment is not None:
        yield f"order:{case.fulfillment.order_reference}"
    if "target" in kinds and case.target:
        yield f"target:{case.target}"
    if "manual" in kinds and case.plan_id is not None:
        waiting = ManualTask.objects.filter(task__plan_id=case.plan_id, state__in=MANUAL_OPEN)
        for pk in waiting.order_by("pk").values_list("pk", flat=True)[:1]:
            yield f"manual:{pk}"


def _help(offer: Offer, subject: str) -> Help:
    return Help(
        action=offer.repair.action,
        subject=subject,
        title=title_of(offer.repair),
        help=help_of(offer.repair),
        needs=offer.needs,
    )


def _beside(one: CaseTask, offered: Iterable[Help]) -> Iterable[Help]:
    """The same for another task of the case, by its state."""
    for offer in offered:
        repair = operations.repair_of(offer.action)
        if repair.about == "task" and str(one.task.state) in repair.from_states:
            yield replace(offer, subject=f"task:{one.task_id}")


def done_before(*, steps: Iterable[caseload.Step], first: Sequence[Help]) -> list[Help]:
    """Of what fixed a case like it (`caseload.fixed_before`): what may be done here as well."""
    kinds = {step.kind for step in steps}
    return [one for one in first if operations.repair_of(one.action).kind in kinds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of what has been done about a case, by people and by the engine."""

    happened_at: datetime
    what: str
    actor: str
    why: str
    operation_id: int = 0
    """Of its record; 0: a transition of the case."""


def history(*, case: FalloutCase, tasks: Sequence[CaseTask], at_most: int = 30) -> list[Happening]:
    """The newest first: the case's own transitions, and operations on it and its tasks."""
    subjects = [f"case:{case.pk}", *(f"task:{one.task_id}" for one in tasks)]
    done = Operation.objects.filter(subject__in=subjects, happened_at__gte=case.opened_at)
    found = [
        Happening(
            happened_at=row.happened_at,
            what=f"{row.kind.replace('_', ' ')} ({row.subject})",
            actor=row.actor,
            why=row.reason,
            operation_id=row.pk,
        )
        for row in done.order_by("-pk")[:at_most]
    ]
    if case.fulfillment_id is not None:
        rows = Transition.objects.filter(
            fulfillment_id=case.fulfillment_id, entity="case", entity_id=str(case.pk)
        ).defer("details")
        found += [
            Happening(
                happened_at=row.occurred_at,
                what=row.name.replace("_", " "),
                actor=row.actor,
                why=row.cause,
            )
            for row in rows.order_by("-sequence")[:at_most]
        ]
    return sorted(found, key=lambda one: one.happened_at, reverse=True)[:at_most]
