"""Releasing an incident: what failed for one cause is tried again, a few of it first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Sum
from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import BulkNotPossible, SelectionInvalid, SubjectUnknown
from fulfillment.models import IS_UNRESOLVED, Hold, Incident, IncidentState, TargetCondition
from fulfillment.operations.bulk.drafting import Terms, Wanted
from fulfillment.operations.bulk.selecting import Selection, select
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.operations.subjects import number_of, target_context

_USUAL = Terms()


class Steps(Parameters):
    """In which steps it is released."""

    canary: int = Field(
        default=_USUAL.canary,
        description="So many are tried first; no other is touched before it is known how they end.",
    )
    stages: tuple[int, ...] = Field(
        default=_USUAL.stages,
        description="Then up to so many percent, one stage after the other, and then all.",
    )
    goes_on: bool = Field(
        default=False,
        description="After a stage that went well the next one begins without being asked.",
    )
    most_failures: int = Field(
        default=_USUAL.most_failures, description="When more have failed it stops by itself."
    )
    most_failures_percent: int = Field(
        default=_USUAL.most_failures_percent,
        description="The same in percent of those that were tried.",
    )
    known_within: timedelta = Field(
        default=_USUAL.known_within,
        description="What has not succeeded by then counts as failed, such as PT1H for an hour.",
    )


class ReleaseIncident(Repair):
    """Once its cause is mended: drafts a bulk job that tries again what its open cases are about.

    The reason says what was mended. Each is looked at first; the job begins when it is started.
    """

    action = Action.INCIDENT_RELEASE
    kind = "release_incident"
    about = "incident"
    parameters = Steps
    leads_to = (Action.BULK_START, Action.TASK_RETRY)
    from_states = frozenset({IncidentState.OPEN})

    def find(self, *, name: str) -> Found:
        incident = Incident.objects.filter(pk=number_of(name, about="incident")).first()
        if incident is None:
            raise SubjectUnknown(f"There is no incident {name[:100]}.")
        subject = f"incident:{incident.pk}"
        return Found(
            subject=subject,
            pk=incident.pk,
            context=target_context(subject=subject, target=incident.target),
            state=incident.state,
        )

    def version(self, unit: Unit, found: Found) -> str:
        incident = Incident.objects.get(pk=found.pk)
        newest = incident.jobs.order_by("-pk").values_list("pk", flat=True).first()
        return f"{incident.state} {newest or ''}".strip()

    def suggested(self, found: Found) -> Mapping[str, Any]:
        return {**Steps().model_dump(exclude={"known_within"}), "known_within": "PT1H"}

    def implies(self, parameters: Any) -> tuple[Action, ...]:
        return (Action.BULK_START,)

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        incident = Incident.objects.select_for_update().get(pk=found.pk)
        if incident.state != IncidentState.OPEN:
            job = incident.jobs.order_by("-pk").first()
            raise BulkNotPossible(f"It is {incident.state}" + (f", by {job}." if job else "."))
        terms = Terms(**parameters.model_dump())
        terms.check()
        selection = Selection(of="case", filter={"incident": incident.pk})
        try:
            subjects = select(selection=selection, about=("task",))
        except SelectionInvalid as error:
            raise BulkNotPossible(
                f"None of its open cases is about a failed task. {error}"
            ) from None
        job = Wanted(
            actor=why.actor,
            action=Action.TASK_RETRY,
            parameters={},
            selection=selection,
            subjects=subjects,
            reason=why.reason,
            evidence=why.evidence,
            terms=terms,
            incident_id=incident.pk,
        ).write(unit)
        kept = _kept_back(incident)
        return Done(
            # Without its number: that of a preview is not the one that it gets.
            told=f"A bulk job is drafted: {len(subjects)} failed tasks, the first "
            f"{min(terms.canary, len(subjects))} of them as a canary. {kept}".strip(),
            before={"state": str(incident.state)},
            after={"tasks": len(subjects), **({"kept_back": kept} if kept else {})},
            customer_impact="Their orders go on as soon as they succeed.",
            financial_impact=_waiting(incident),
            result={"job": job.pk},
        )


def release(
    *, incident_id: int, actor: Actor, reason: str, parameters: dict[str, Any] | None = None
) -> int:
    """The number of the job that was drafted. Raises as `catalog.perform` does."""
    request = Request(
        action=Action.INCIDENT_RELEASE,
        subject=f"incident:{incident_id}",
        reason=reason,
        parameters=parameters or {},
    )
    job: int = perform(actor=actor, request=request).result["job"]
    return job


def _waiting(incident: Incident) -> str:
    """What its open cases keep from being earned."""
    rows = incident.cases.filter(IS_UNRESOLVED).exclude(revenue_amount=None)
    sums = rows.values_list("revenue_currency").annotate(amount=Sum("revenue_amount")).order_by()
    told = ", ".join(f"{amount:,.2f} {currency}" for currency, amount in sums)
    return f"{told} wait, and can be earned once they succeed." if told else "None."


def _kept_back(incident: Incident) -> str:
    """What would keep it waiting although it is tried again."""
    condition = TargetCondition.objects.filter(target=incident.target).first()
    told = []
    if condition is not None and condition.paused_at is not None:
        told.append(f"{incident.target} is paused by {condition.paused_by}: resume it first.")
    subjects = [f"target:{incident.target}", f"action:{incident.target}/{incident.action}"]
    for hold in Hold.objects.filter(subject__in=subjects, released_at=None):
        told.append(f"{hold.subject} is held by {hold.placed_by}: {hold.reason}")
    return " ".join(told)
