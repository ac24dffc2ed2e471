"""Operations for people: what there is, what may be done to something, its preview, and doing it.

One address for every operation that there is; the record says who did it, and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from drf_spectacular.utils import extend_schema
from pydantic import Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.authority.authorizing import Reach
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from oms.api import operation_documents as documents
from oms.api import schema
from oms.api.authentication import IsPerson
from oms.api.operating import Reason, actor_of, answered_once, replied
from oms.api.orders import query_of
from oms.api.parsing import json_body, validated
from oms.api.problems import refused
from oms.api.requests import Closed
from oms.intake.replay import Answer

ActionName = Annotated[str, StringConstraints(max_length=60)]
Subject = Annotated[str, StringConstraints(min_length=3, max_length=300, pattern=r"^[^\x00]*$")]
Version = Annotated[str, StringConstraints(max_length=200)]


class PreviewIn(Closed):
    """What is to be done to what."""

    action: ActionName = Field(description="As `GET /v1/operations` names it: `task.retry`.")
    subject: Subject = Field(description="Such as `task:12`, `order:O-17` or `target:billing`.")
    parameters: dict[str, JsonValue] = Field({}, description="By the operation's schema.")
    reason: Annotated[str, StringConstraints(max_length=2000)] = ""
    evidence: Annotated[str, StringConstraints(max_length=4000)] = Field(
        "", description="What you have found out, and where it can be seen."
    )

    def request(self, *, expected_version: str = "") -> operations.Request:
        """Raises ActionUnknown."""
        return operations.Request(
            action=operations.repair_of(self.action).action,
            subject=self.subject,
            reason=self.reason,
            evidence=self.evidence,
            parameters=self.parameters,
            expected_version=expected_version,
        )


class OperationIn(PreviewIn):
    reason: Reason
    expected_version: Version = Field(
        "", description="Of the preview that you have seen; without it: as it is by then."
    )


class OfferedQuery(Closed):
    subject: Subject


@contextmanager
def _told_what_changed(found: operations.Prepared) -> Iterator[None]:
    """A conflict says who was there before."""
    try:
        yield
    except NotPossible as error:
        problem = refused(error, changed=found.changed() or None)
        assert problem is not None
        raise problem from None


class Operations(APIView):
    """Every operation there is; and doing one."""

    permission_classes = (IsPerson,)

    @extend_schema(
        operation_id="list_operations",
        tags=["Operations"],
        summary="Everything that may be done by hand, and what it has to be told",
        responses={200: documents.OperationKinds, **schema.problems(401, 403, 503)},
    )
    def get(self, request: Request) -> Response:
        """Whoever has the permission and a grant that covers the subject may do it."""
        kinds = [documents.kind_document(repair) for repair in operations.every_repair()]
        answer = documents.OperationKinds(operations=kinds)
        return Response(answer.model_dump(mode="json"))

    @extend_schema(
        operation_id="operate",
        tags=["Operations"],
        summary="Do something by hand, or ask for the approval that it needs",
        parameters=[schema.IDEMPOTENCY_KEY],
        examples=schema.OPERATIONS,
        request=OperationIn,
        responses={
            200: documents.OperationDone,
            202: documents.OperationAsked,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """200: it is done. 202: another person has to approve it, and it is done when they do.
        403: you may not; that is on record. 409: as it stands now it can't be done, or it has
        changed since the preview; `changed` says who did what.
        """
        data = json_body(request)
        wanted = validated(OperationIn, data)
        asked = wanted.request(expected_version=wanted.expected_version)
        # Before the unit that keeps the answer: a denial stays on record.
        found = operations.prepared(actor=actor_of(request), request=asked)
        with _told_what_changed(found):
            if found.needs is not None:
                return self._ask(found)
            return self._do(request, found, data)

    def _ask(self, found: operations.Prepared) -> Response:
        approval = operations.ask_for_approval(prepared=found)
        return Response(documents.asked_document(approval), status=202)

    def _do(self, request: Request, found: operations.Prepared, data: Any) -> Response:
        committed: list[operations.Done] = []

        def answer(unit: Unit) -> Answer:
            committed[:] = [found.carry_out(unit)]
            return 200, self._document(found, committed[0])

        found.repair.beforehand(found.found)
        done = answered_once(
            request, data=data, fulfillment_ids=found.found.fulfillment_ids, answer=answer
        )
        response = replied(request, done)
        if not done.is_replay:
            response.data = self._document(found, found.repair.afterwards(committed[0]))
        return response

    def _document(self, found: operations.Prepared, done: operations.Done) -> dict[str, Any]:
        return documents.done_document(
            action=found.repair.action,
            subject=found.found.subject,
            done=done,
            authority=found.permit.authority,
        )


class OfferedOperations(APIView):
    permission_classes = (IsPerson,)

    @extend_schema(
        operation_id="list_offered_operations",
        tags=["Operations"],
        summary="What you may do to something now, and why not the rest",
        parameters=[schema.SUBJECT],
        responses={200: documents.Offers, **schema.problems(400, 401, 403, 404, 503)},
    )
    def get(self, request: Request) -> Response:
        """As far as that can be told without doing it; the preview tells more."""
        subject = query_of(OfferedQuery, request).subject
        offers = operations.offers(reach=Reach(actor=actor_of(request)), subject=subject)
        return Response(documents.offers_document(subject=subject, offers=offers))


class OperationPreviews(APIView):
    permission_classes = (IsPerson,)

    @extend_schema(
        operation_id="preview_operation",
        tags=["Operations"],
        summary="See what an operation would do now",
        examples=schema.OPERATIONS,
        request=PreviewIn,
        responses={
            200: documents.OperationPreview,
            **schema.problems(400, 401, 403, 404, 409, 413, 415, 503),
        },
    )
    def post(self, request: Request) -> Response:
        """By the function that would do it; nothing is changed. `version` goes into
        `expected_version`, so that it is done as you have seen it or not at all.
        """
        wanted = validated(PreviewIn, json_body(request)).request()
        found = operations.looked_at(actor=actor_of(request), request=wanted)
        with _told_what_changed(found):
            preview = found.preview()
        return Response(
            documents.preview_document(
                action=wanted.action, subject=found.found.subject, preview=preview
            )
        )
