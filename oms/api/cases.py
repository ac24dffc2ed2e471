"""Fallout cases and incidents, for people's keys: read here, worked on by operations."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field, StringConstraints
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment.actions import Action
from fulfillment.authority.authorizing import holds
from fulfillment.models import CaseCategory, FalloutCase, Incident, Severity
from fulfillment.queries import caseload
from oms.api import schema
from oms.api.authentication import IsPerson
from oms.api.case_documents import (
    CaseDocument,
    CaseSummary,
    IncidentDocument,
    IncidentOut,
    case_document,
    case_summaries,
    incident_document,
    incident_summaries,
)
from oms.api.operating import actor_of
from oms.api.orders import next_page, query_of
from oms.api.problems import Problem
from oms.api.requests import Closed

Word = Annotated[str, StringConstraints(max_length=150, pattern=r"^[^\x00]*$")]
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]
Limit = Annotated[int, Field(ge=1, le=200)]
_READERS = (
    Action.CASE_ASSIGN,
    Action.CASE_ESCALATE,
    Action.CASE_AWAIT_CUSTOMER,
    Action.CASE_CLOSE,
    Action.INCIDENT_ASSIGN,
    Action.INCIDENT_RELEASE,
    Action.INCIDENT_CLOSE,
    Action.ORDER_EVIDENCE,
)


class SeesCases(BasePermission):
    """Whoever may do anything about cases anywhere, or take evidence, may read them all."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        actor = actor_of(request)
        if not any(holds(actor=actor, action=action) for action in _READERS):
            raise Problem(
                status=403,
                code="authority.denied",
                title="You may not see cases",
                detail="None of your roles has to do with them. Whoever looks after roles can "
                "give you one.",
            )
        return True


class CaseStates(StrEnum):
    OPEN = "OPEN"
    ASSIGNED = "ASSIGNED"
    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    RESOLVED = "RESOLVED"
    UNRESOLVED = "open"
    ALL = "all"


class IncidentStates(StrEnum):
    OPEN = "OPEN"
    RELEASING = "RELEASING"
    RESOLVED = "RESOLVED"
    UNRESOLVED = "open"
    ALL = "all"


class CaseFilter(Closed):
    """Query of the list; `after` is the last id of the page before."""

    state: CaseStates = CaseStates.UNRESOLVED
    queue: Word = ""
    category: CaseCategory | None = None
    severity: Severity | None = None
    reason_code: Word = ""
    target: Word = ""
    assigned_to: Word = ""
    incident: Number | None = None
    overdue: bool = False
    order: Word = ""
    limit: Limit = 50
    after: Number | None = None


class CasePage(BaseModel):
    cases: list[CaseSummary]
    next: str | None = Field(description="The next page, or null.")


class IncidentFilter(Closed):
    state: IncidentStates = IncidentStates.UNRESOLVED
    target: Word = ""
    limit: Limit = 50
    after: Number | None = None


class IncidentPage(BaseModel):
    incidents: list[IncidentOut]
    next: str | None = Field(description="The next page, or null.")


class Cases(APIView):
    permission_classes = [IsPerson, SeesCases]

    @extend_schema(
        operation_id="list_cases",
        tags=["Cases"],
        summary="What can't go on by itself, the oldest first",
        parameters=schema.CASE_FILTERS,
        responses={200: CasePage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Those that are open, unless `state` says otherwise. Every filter narrows."""
        query = query_of(CaseFilter, request)
        rows = caseload.cases(
            caseload.Wanted(
                state=query.state,
                queue=query.queue,
                category=query.category or "",
                severity=query.severity or "",
                reason_code=query.reason_code,
                target=query.target,
                assigned_to=query.assigned_to,
                incident=query.incident,
                order=query.order,
                overdue=query.overdue,
            )
        ).order_by("pk")
        if query.after is not None:
            rows = rows.filter(pk__gt=query.after)
        found = list(rows[: query.limit + 1])
        page = found[: query.limit]
        answer = CasePage(
            cases=case_summaries(page),
            next=next_page(request, after=page[-1].pk) if len(found) > len(page) else None,
        )
        return Response(answer.model_dump(mode="json"))


class CaseDetail(APIView):
    permission_classes = [IsPerson, SeesCases]

    @extend_schema(
        operation_id="read_case",
        tags=["Cases"],
        summary="Read one: the evidence, its tasks, and what has helped before",
        responses={200: CaseDocument, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, case_id: str) -> Response:
        """Worked on by operations on the subject `case:<id>`."""
        case = FalloutCase.objects.select_related("fulfillment").filter(pk=int(case_id)).first()
        if case is None:
            raise _unknown("case", case_id)
        return Response(case_document(case))


class Incidents(APIView):
    permission_classes = [IsPerson, SeesCases]

    @extend_schema(
        operation_id="list_incidents",
        tags=["Cases"],
        summary="Causes that many cases have in common, the oldest first",
        parameters=schema.INCIDENT_FILTERS,
        responses={200: IncidentPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Those that are open, unless `state` says otherwise; `cases?incident=` has their cases."""
        query = query_of(IncidentFilter, request)
        rows = caseload.incidents(state=query.state, target=query.target).order_by("pk")
        if query.after is not None:
            rows = rows.filter(pk__gt=query.after)
        found = list(rows[: query.limit + 1])
        page = found[: query.limit]
        answer = IncidentPage(
            incidents=incident_summaries(page),
            next=next_page(request, after=page[-1].pk) if len(found) > len(page) else None,
        )
        return Response(answer.model_dump(mode="json"))


class IncidentDetail(APIView):
    permission_classes = [IsPerson, SeesCases]

    @extend_schema(
        operation_id="read_incident",
        tags=["Cases"],
        summary="Read one, and what has helped before",
        responses={200: IncidentDocument, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, incident_id: str) -> Response:
        """Worked on by operations on the subject `incident:<id>`."""
        incident = Incident.objects.filter(pk=int(incident_id)).first()
        if incident is None:
            raise _unknown("incident", incident_id)
        return Response(incident_document(incident))


def _unknown(what: str, number: str) -> Problem:
    return Problem(
        status=404,
        code=f"{what}.unknown",
        title=f"There is no such {what}",
        detail=f"There is no {what} {number}; the list has their numbers.",
    )
