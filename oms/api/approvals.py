"""Four eyes over the API: what waits for another person, and their answer."""

from __future__ import annotations

from typing import Annotated

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.actions import APPROVALS
from fulfillment.authority.authorizing import held
from fulfillment.errors import ApprovalUnknown
from fulfillment.models import Approval, ApprovalState
from oms.api import schema
from oms.api.approval_documents import ApprovalOut, ApprovalPage, approval_document
from oms.api.authentication import IsPerson, user_of
from oms.api.operating import Reason, actor_of
from oms.api.orders import next_page, query_of
from oms.api.parsing import json_body, validated
from oms.api.requests import Closed, Label

_FILTERS = [
    OpenApiParameter("state", OpenApiTypes.STR, enum=[*ApprovalState]),
    OpenApiParameter("subject", OpenApiTypes.STR, description="Such as `task:12`."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; default 50."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]


class ApprovalFilter(Closed):
    state: ApprovalState | None = None
    subject: Label | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    after: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class DecideIn(Closed):
    reason: Reason


class Approvals(APIView):
    permission_classes = [IsPerson]

    @extend_schema(
        operation_id="list_approvals",
        tags=["Operations"],
        summary="What waits for another person's approval, and what became of it, newest first",
        parameters=_FILTERS,
        responses={200: ApprovalPage, **schema.problems(400, 401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """What you have asked for; and if you approve anything, or may look at approvals, those
        of everybody."""
        query = query_of(ApprovalFilter, request)
        rows = _visible(request).order_by("-pk")
        if query.state is not None:
            rows = rows.filter(state=query.state)
        if query.subject is not None:
            rows = rows.filter(subject=query.subject)
        if query.after is not None:
            rows = rows.filter(pk__lt=query.after)
        found = list(rows[: query.limit + 1])
        page = found[: query.limit]
        actor = actor_of(request)
        may = held(actor=actor)
        return Response(
            {
                "approvals": [approval_document(row, actor=actor, held=may) for row in page],
                "next": next_page(request, after=page[-1].pk) if len(found) > len(page) else None,
            }
        )


class ApprovalDetail(APIView):
    permission_classes = [IsPerson]

    @extend_schema(
        operation_id="read_approval",
        tags=["Operations"],
        summary="Read what somebody asks for: what it will do, why, and on what evidence",
        responses={200: ApprovalOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, approval_id: str) -> Response:
        """`may_decide` says whether it waits for you."""
        return _shown(request, int(approval_id))


class _Decision(APIView):
    permission_classes = [IsPerson]


class ApprovalApprove(_Decision):
    @extend_schema(
        operation_id="approve",
        tags=["Operations"],
        summary="Approve it: it is done in the same moment, or not at all",
        request=DecideIn,
        responses={200: ApprovalOut, **schema.problems(400, 401, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, approval_id: str) -> Response:
        """Never by whoever asked for it. 409 when what it is about has changed since; then it has
        to be asked for anew."""
        wanted = validated(DecideIn, json_body(request))
        pk = _seen(request, int(approval_id))
        operations.approve(approval_id=pk, actor=actor_of(request), reason=wanted.reason)
        return _shown(request, pk)


class ApprovalRefuse(_Decision):
    @extend_schema(
        operation_id="refuse",
        tags=["Operations"],
        summary="Refuse it",
        request=DecideIn,
        responses={200: ApprovalOut, **schema.problems(400, 401, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, approval_id: str) -> Response:
        """Nothing is done; whoever asked for it reads why."""
        wanted = validated(DecideIn, json_body(request))
        pk = _seen(request, int(approval_id))
        operations.refuse(approval_id=pk, actor=actor_of(request), reason=wanted.reason)
        return _shown(request, pk)


class ApprovalWithdraw(_Decision):
    @extend_schema(
        operation_id="withdraw",
        tags=["Operations"],
        summary="Take back what you have asked for",
        request=DecideIn,
        responses={200: ApprovalOut, **schema.problems(400, 401, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, approval_id: str) -> Response:
        """Only whoever has asked for it does; others refuse it."""
        wanted = validated(DecideIn, json_body(request))
        pk = _seen(request, int(approval_id))
        operations.withdraw(approval_id=pk, actor=actor_of(request), reason=wanted.reason)
        return _shown(request, pk)


def _visible(request: Request) -> QuerySet[Approval]:
    """Those that this person may see, with all that a document of them says."""
    user = user_of(request)
    rows = Approval.objects.select_related(
        "requested_by", "decided_by", "fulfillment"
    ).prefetch_related("operations")
    may_see_all = user.has_perm("fulfillment.view_approval") or not APPROVALS.isdisjoint(
        held(actor=actor_of(request))
    )
    return rows if may_see_all else rows.filter(requested_by=user)


def _seen(request: Request, approval_id: int) -> int:
    """Raises ApprovalUnknown also for what this person may not see."""
    if not _visible(request).filter(pk=approval_id).exists():
        raise ApprovalUnknown(f"There is no approval {approval_id}; the list has their numbers.")
    return approval_id


def _shown(request: Request, approval_id: int) -> Response:
    actor = actor_of(request)
    row = _visible(request).filter(pk=_seen(request, approval_id)).get()
    return Response(approval_document(row, actor=actor, held=held(actor=actor)))
