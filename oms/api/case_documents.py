"""Cases and incidents as people's keys see them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from fulfillment.models import (
    CaseCategory,
    CaseState,
    CaseTask,
    FalloutCase,
    Incident,
    IncidentState,
    Severity,
)
from fulfillment.queries import caseload
from fulfillment.queries.caseload import Extent, Remedied


class Money(BaseModel):
    amount: Decimal
    currency: str


class CaseSummary(BaseModel):
    id: int
    subject: str = Field(description="As operations name it.")
    state: CaseState
    category: CaseCategory
    severity: Severity
    reason_code: str
    target: str | None
    action: str | None = Field(description="Of the target system, or `<workflow>/<task>`.")
    title: str
    order: str | None
    incident: int | None
    tasks_open: int
    tasks_total: int
    queue: str
    role: str | None
    assigned_to: str | None
    opened_at: datetime
    due_at: datetime
    overdue: bool
    level: int = Field(description="How often it was escalated.")
    customer_awaited_since: datetime | None
    revenue: Money | None = Field(description="What waits: once, and one period.")
    resolved_at: datetime | None
    options: list[str] = Field(description="Operations that may help, and are possible now.")


class CaseTaskOut(BaseModel):
    id: int
    key: str
    state: str
    title: str
    explanation: str
    facts: dict[str, JsonValue]
    joined_at: datetime
    left_at: datetime | None
    left_because: str | None


class StepOut(BaseModel):
    operation: str
    subject: str
    by: str
    reason: str
    at: datetime


class RemediedOut(BaseModel):
    case: int
    order: str | None
    resolved_at: datetime
    resolved_by: str
    resolution: str
    took_seconds: float
    steps: list[StepOut]


class CaseDocument(CaseSummary):
    explanation: str
    facts: dict[str, JsonValue]
    to_find_out: list[str] = Field(description="What has to be known to decide.")
    customer_impact: str
    revenue_impact: str
    calendar: str | None = Field(description="In whose working hours its time counts.")
    assigned_at: datetime | None
    customer_asked: str | None
    escalated_at: datetime | None
    opened_by: str
    resolved_by: str | None
    resolution: str | None
    tasks: list[CaseTaskOut] = Field(description="At most 200, those still in it first.")
    fixed_before: list[RemediedOut] = Field(
        description="Same target, action and reason: what was resolved last, and by what."
    )


class IncidentOut(BaseModel):
    id: int
    subject: str
    state: IncidentState
    title: str
    target: str | None
    action: str | None
    reason_code: str
    severity: Severity
    queue: str
    assigned_to: str | None
    cases: int
    open_cases: int
    orders: int
    opened_at: datetime
    latest_at: datetime | None = Field(description="When its newest case was opened.")
    cause: str | None
    fix: str | None
    releasing_since: datetime | None
    resolved_at: datetime | None
    resolved_by: str | None


class IncidentDocument(IncidentOut):
    fixed_before: list[RemediedOut]


def case_summaries(cases: Collection[FalloutCase]) -> list[CaseSummary]:
    """Of many, in a fixed number of queries."""
    options = caseload.options(cases)
    return [CaseSummary(**_summary(case, options.get(case.pk, []))) for case in cases]


def case_document(case: FalloutCase) -> dict[str, Any]:
    """Everything about one."""
    options = caseload.options([case]).get(case.pk, [])
    before = caseload.fixed_before(fingerprint=case.fingerprint, besides=case.pk)
    return CaseDocument(
        **_summary(case, options),
        explanation=case.explanation,
        facts=case.facts,
        to_find_out=list(caseload.TO_FIND_OUT[CaseCategory(case.category)]),
        customer_impact=case.customer_impact,
        revenue_impact=case.revenue_impact,
        calendar=case.sla_calendar or None,
        assigned_at=case.assigned_at,
        customer_asked=case.customer_asked or None,
        escalated_at=case.escalated_at,
        opened_by=case.opened_by,
        resolved_by=case.resolved_by or None,
        resolution=case.resolution or None,
        tasks=[_task(one) for one in caseload.tasks_of(case)],
        fixed_before=[_remedied(one) for one in before],
    ).model_dump(mode="json")


def incident_summaries(incidents: Collection[Incident]) -> list[IncidentOut]:
    """Of many, in a fixed number of queries."""
    extents = caseload.extents(incidents)
    return [IncidentOut(**_incident(one, extents[one.pk])) for one in incidents]


def incident_document(incident: Incident) -> dict[str, Any]:
    """Everything about one; its cases have a list of their own."""
    before = caseload.fixed_before(fingerprint=incident.fingerprint)
    return IncidentDocument(
        **_incident(incident, caseload.extents([incident])[incident.pk]),
        fixed_before=[_remedied(one) for one in before],
    ).model_dump(mode="json")


def _summary(case: FalloutCase, options: Collection[str]) -> dict[str, Any]:
    revenue = None
    if case.revenue_amount is not None:
        revenue = Money(amount=case.revenue_amount, currency=case.revenue_currency)
    return {
        "id": case.pk,
        "subject": f"case:{case.pk}",
        "state": case.state,
        "category": case.category,
        "severity": case.severity,
        "reason_code": case.reason_code,
        "target": case.target or None,
        "action": case.action or None,
        "title": case.title,
        "order": case.fulfillment.order_reference if case.fulfillment else None,
        "incident": case.incident_id,
        "tasks_open": case.tasks_open,
        "tasks_total": case.tasks_total,
        "queue": case.owner_queue,
        "role": case.role or None,
        "assigned_to": case.assigned_to or None,
        "opened_at": case.opened_at,
        "due_at": case.sla_due_at,
        "overdue": caseload.is_overdue(case),
        "level": case.escalation_level,
        "customer_awaited_since": case.customer_awaited_since,
        "revenue": revenue,
        "resolved_at": case.resolved_at,
        "options": list(options),
    }


def _task(one: CaseTask) -> CaseTaskOut:
    return CaseTaskOut(
        id=one.task_id,
        key=one.task.key,
        state=str(one.task.state),
        title=one.title,
        explanation=one.explanation,
        facts=one.facts,
        joined_at=one.joined_at,
        left_at=one.left_at,
        left_because=one.left_because or None,
    )


def _remedied(one: Remedied) -> RemediedOut:
    return RemediedOut(
        case=one.case_id,
        order=one.order_reference or None,
        resolved_at=one.resolved_at,
        resolved_by=one.resolved_by,
        resolution=one.resolution,
        took_seconds=one.took.total_seconds(),
        steps=[
            StepOut(
                operation=step.kind,
                subject=step.subject,
                by=step.actor,
                reason=step.reason,
                at=step.happened_at,
            )
            for step in one.steps
        ],
    )


def _incident(incident: Incident, extent: Extent) -> dict[str, Any]:
    return {
        "id": incident.pk,
        "subject": f"incident:{incident.pk}",
        "state": incident.state,
        "title": incident.title,
        "target": incident.target or None,
        "action": incident.action or None,
        "reason_code": incident.reason_code,
        "severity": incident.severity,
        "queue": incident.owner_queue,
        "assigned_to": incident.assigned_to or None,
        "cases": extent.cases,
        "open_cases": extent.open_cases,
        "orders": extent.orders,
        "opened_at": incident.opened_at,
        "latest_at": extent.latest_at,
        "cause": incident.cause or None,
        "fix": incident.fix or None,
        "releasing_since": incident.releasing_since,
        "resolved_at": incident.resolved_at,
        "resolved_by": incident.resolved_by or None,
    }
