"""Manual tasks of a client's orders: read, and decided."""

from __future__ import annotations

from typing import Annotated

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import DecisionMade, DefinitionInvalid, OutcomeUnknown
from fulfillment.models import ManualOrigin, ManualState, ManualTask
from oms.api import schema
from oms.api.manual_documents import ManualOut, ManualSummary, manual_document, manual_summary
from oms.api.operating import Reason, operate
from oms.api.orders import next_page, orders_of, query_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed
from oms.models import Order

Word = Annotated[str, StringConstraints(max_length=63, pattern=r"^[^\x00]*$")]


class ManualFilter(Closed):
    """Query of the list; `after` is the last id of the page before."""

    queue: Word | None = None
    role: Word | None = None
    state: ManualState | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class DecisionIn(Closed):
    outcome: Word = Field(description="One of the task's `outcomes`.")
    values: dict[str, JsonValue] = Field({}, description="What its `fields` ask for.")
    question: Annotated[str, StringConstraints(max_length=1000)] = Field(
        "", description="Of an outcome that asks the customer: what, word for word."
    )
    reason: Reason


class ManualPage(BaseModel):
    manual_tasks: list[ManualSummary]
    next: str | None = Field(description="The next page, or null.")


class ManualTasks(APIView):
    @extend_schema(
        operation_id="list_manual_tasks",
        tags=["Manual tasks"],
        summary="What people have to decide about your orders, the newest first",
        parameters=schema.MANUAL_FILTERS,
        responses={200: ManualPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Every filter narrows; `next` is the address of the next page."""
        query = query_of(ManualFilter, request)
        rows = _of(request).order_by("-pk").defer("context", "instructions")
        for name in ("queue", "role", "state"):
            if getattr(query, name) is not None:
                rows = rows.filter(**{name: getattr(query, name)})
        if query.after is not None:
            rows = rows.filter(pk__lt=query.after)
        found = list(rows[: query.limit + 1])
        page = found[: query.limit]
        answer = ManualPage(
            manual_tasks=[manual_summary(row) for row in page],
            next=next_page(request, after=page[-1].pk) if len(found) > len(page) else None,
        )
        return Response(answer.model_dump(mode="json"))


class ManualDetail(APIView):
    @extend_schema(
        operation_id="read_manual_task",
        tags=["Manual tasks"],
        summary="Read one: what is to be decided, and what has to be known for it",
        responses={200: ManualOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, manual_id: str) -> Response:
        """With instructions, the fields of its form, and what was known when it was opened."""
        return Response(manual_document(_found(request, int(manual_id))))


class ManualDecision(APIView):
    @extend_schema(
        operation_id="decide_manual_task",
        tags=["Manual tasks"],
        summary="Decide a manual task",
        parameters=[schema.IDEMPOTENCY_KEY],
        examples=schema.DECISIONS,
        request=DecisionIn,
        responses={200: ManualOut, **schema.problems(400, 401, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, manual_id: str) -> Response:
        """The order goes on in the same moment. Of two who decide, one does; the other is told
        by whom and what.
        """
        data = json_body(request)
        wanted = validated(DecisionIn, data)
        manual = _found(request, int(manual_id))

        try:
            return operate(
                request,
                data=data,
                wanted=operations.Request(
                    action=Action.MANUAL_DECIDE,
                    subject=f"manual:{manual.pk}",
                    reason=wanted.reason,
                    parameters={
                        "outcome": wanted.outcome,
                        "values": wanted.values,
                        "question": wanted.question,
                    },
                ),
                document=lambda _: manual_document(_found(request, manual.pk)),
            )
        except OutcomeUnknown as error:
            raise Problem(
                status=400,
                code=error.code,
                title="It can't be decided like that",
                detail=str(error),
            ) from None
        except DefinitionInvalid as error:
            raise Problem(
                status=400,
                code="manual.values_invalid",
                title="The values don't fit",
                detail="Nothing was decided. Correct everything in `errors` and send it again.",
                errors=[
                    {"path": fault.path, "code": fault.code, "message": fault.message}
                    for fault in error.faults
                ],
            ) from None
        except DecisionMade as error:
            manual.refresh_from_db()
            raise Problem(
                status=409,
                code=error.code,
                title="It has been decided already",
                detail=str(error),
                decision={
                    "state": manual.state,
                    "outcome": manual.outcome or None,
                    "decided_by": manual.decided_by or None,
                    "decided_at": manual.decided_at and manual.decided_at.isoformat(),
                },
            ) from None


def _of(request: Request) -> QuerySet[ManualTask]:
    own: QuerySet[Order] = orders_of(request)
    # What has gone wrong is for the people who look after it.
    return ManualTask.objects.filter(
        fulfillment_id__in=own.values("fulfillment_id"), origin=ManualOrigin.WORKFLOW
    ).select_related("task", "fulfillment")


def _found(request: Request, manual_id: int) -> ManualTask:
    """Raises Problem 404 for those of other clients, too."""
    manual = _of(request).filter(pk=manual_id).first()
    if manual is None:
        raise Problem(
            status=404,
            code="manual.unknown",
            title="There is no such manual task",
            detail=f"None of your orders has a manual task {manual_id}. The list has them all.",
        )
    return manual
