"""What people have to decide, for people's keys: read here, worked on by operations."""

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
from fulfillment.models import MANUAL_OPEN, ManualOrigin, ManualTask
from oms.api import schema
from oms.api.authentication import IsPerson
from oms.api.manual_documents import (
    ManualWorkOut,
    ManualWorkSummary,
    manual_work_document,
    manual_work_summary,
)
from oms.api.operating import actor_of
from oms.api.orders import next_page, query_of
from oms.api.problems import Problem
from oms.api.requests import Closed

Word = Annotated[str, StringConstraints(max_length=150, pattern=r"^[^\x00]*$")]
_READERS = (
    Action.MANUAL_CLAIM,
    Action.MANUAL_REASSIGN,
    Action.MANUAL_DECIDE,
    Action.ORDER_EVIDENCE,
)


class SeesManualWork(BasePermission):
    """Whoever takes, gives or decides manual tasks anywhere, or takes evidence, reads them all."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        actor = actor_of(request)
        if not any(holds(actor=actor, action=action) for action in _READERS):
            raise Problem(
                status=403,
                code="authority.denied",
                title="You may not see manual tasks",
                detail="None of your roles has to do with them. Whoever looks after roles can "
                "give you one.",
            )
        return True


class ManualStates(StrEnum):
    OPEN = "OPEN"
    CLAIMED = "CLAIMED"
    AWAITING_CUSTOMER = "AWAITING_CUSTOMER"
    DECIDED = "DECIDED"
    WITHDRAWN = "WITHDRAWN"
    TO_DO = "open"
    ALL = "all"


class ManualWorkFilter(Closed):
    """Query of the list; `after` is the last id of the page before."""

    state: ManualStates = ManualStates.TO_DO
    origin: ManualOrigin | None = None
    queue: Word = ""
    role: Word = ""
    claimed_by: Word = ""
    order: Word = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class ManualWorkPage(BaseModel):
    manual_tasks: list[ManualWorkSummary]
    next: str | None = Field(description="The next page, or null.")


class ManualWork(APIView):
    permission_classes = [IsPerson, SeesManualWork]

    @extend_schema(
        operation_id="list_manual_work",
        tags=["Manual tasks"],
        summary="What people have to decide, the oldest first",
        parameters=schema.MANUAL_WORK_FILTERS,
        responses={200: ManualWorkPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Those that are not decided, unless `state` says otherwise. Every filter narrows. They
        are claimed, released, reassigned and decided by `POST /operations`.
        """
        query = query_of(ManualWorkFilter, request)
        rows = ManualTask.objects.select_related("task", "fulfillment").order_by("pk")
        if query.state is ManualStates.TO_DO:
            rows = rows.filter(state__in=sorted(MANUAL_OPEN))
        elif query.state is not ManualStates.ALL:
            rows = rows.filter(state=query.state.value)
        for name in ("origin", "queue", "role", "claimed_by"):
            if getattr(query, name):
                rows = rows.filter(**{name: getattr(query, name)})
        if query.order:
            rows = rows.filter(fulfillment__order_reference=query.order)
        if query.after is not None:
            rows = rows.filter(pk__gt=query.after)
        found = list(rows.defer("context", "instructions")[: query.limit + 1])
        page = found[: query.limit]
        answer = ManualWorkPage(
            manual_tasks=[manual_work_summary(row) for row in page],
            next=next_page(request, after=page[-1].pk) if len(found) > len(page) else None,
        )
        return Response(answer.model_dump(mode="json"))


class ManualWorkDetail(APIView):
    permission_classes = [IsPerson, SeesManualWork]

    @extend_schema(
        operation_id="read_manual_work",
        tags=["Manual tasks"],
        summary="Read one: what is to be decided, by whom, and what has to be known for it",
        responses={200: ManualWorkOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, manual_id: str) -> Response:
        """With instructions, the fields of its form, and what was known when it was opened."""
        manual = (
            ManualTask.objects.select_related("task", "fulfillment")
            .filter(pk=int(manual_id))
            .first()
        )
        if manual is None:
            raise Problem(
                status=404,
                code="manual.unknown",
                title="There is no such manual task",
                detail=f"There is no manual task {manual_id}. The list has them all.",
            )
        return Response(manual_work_document(manual))
