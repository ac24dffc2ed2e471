"""Errors as problem documents (RFC 9457), each with a stable `code`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from psycopg_pool import PoolTimeout
from rest_framework import exceptions
from rest_framework.response import Response

from fulfillment.errors import (
    ActionUnknown,
    ApprovalNeeded,
    CapacityUnusable,
    DefinitionInvalid,
    Denied,
    EvidenceMissing,
    FulfillmentError,
    GateBusy,
    HoldWouldBeOver,
    NotPossible,
    OutcomeUnknown,
    ParametersInvalid,
    ReasonMissing,
    SelectionInvalid,
    SubjectUnknown,
    ValueUnavailable,
)

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 2
_GATE_RETRY_AFTER_SECONDS = 20
"""By then a process that stands still has lost its transaction (`oms.settings`)."""


class Problem(exceptions.APIException):
    """Raised anywhere in the API; `extra` members join the document."""

    def __init__(
        self,
        *,
        status: int,
        code: str,
        title: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail, code)
        self.status_code = status
        self.headers = dict(headers or {})
        self.document = {
            "type": f"urn:order-engine:problem:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            **({"errors": list(errors)} if errors else {}),
            **extra,
        }


def handle(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """Django REST framework's exception handler; None lets Django answer 500."""
    problem = _problem(error)
    if problem is None:
        return None
    request = context.get("request")
    if request is not None:
        problem.document["instance"] = request.path
    return Response(
        problem.document,
        status=problem.status_code,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


def _problem(error: Exception) -> Problem | None:
    match error:
        case Problem():
            return error
        case Http404():
            return _nothing_here()
        case exceptions.MethodNotAllowed():
            return Problem(
                status=405,
                code="request.method_not_allowed",
                title="This method is not available here",
                detail=f"{error.detail} /api/docs/ lists what is.",
            )
        case exceptions.UnsupportedMediaType():
            return Problem(
                status=415,
                code="request.media_type",
                title="Only JSON is read here",
                detail="Send the body as JSON, with Content-Type: application/json.",
            )
        case exceptions.NotAcceptable():
            return Problem(
                status=406,
                code="request.not_acceptable",
                title="Only JSON is answered here",
                detail="Accept application/json, or leave the header out.",
            )
        case PermissionDenied() | exceptions.PermissionDenied():
            return Problem(
                status=403,
                code="auth.forbidden",
                title="This key may not do that",
                detail="Ask for a key with the scope that this request needs.",
            )
        # A database that may only be read says so by an InternalError.
        case OperationalError() | InterfaceError() | InternalError() | PoolTimeout():
            logger.error("the database did not answer", exc_info=error)
            return Problem(
                status=503,
                code="server.unavailable",
                title="The database does not answer at the moment",
                detail="Nothing was done, or it can't be told whether it was. Send the same "
                "request again, with the same Idempotency-Key, in a few seconds.",
                headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
            )
        case GateBusy():
            return Problem(
                status=503,
                code="hold.gate_busy",
                title="Holds can't be changed at this moment",
                detail=str(error),
                headers={"Retry-After": str(_GATE_RETRY_AFTER_SECONDS)},
            )
        case FulfillmentError():
            return refused(error)
        case exceptions.APIException():
            return Problem(
                status=error.status_code,
                code="request.refused",
                title="The request was refused",
                detail=str(error.detail),
            )
    return None


_REFUSED: tuple[tuple[tuple[type[FulfillmentError], ...], int, str], ...] = (
    ((Denied,), 403, "You may not do this"),
    ((SubjectUnknown, ActionUnknown), 404, "There is nothing of that name"),
    ((ParametersInvalid, DefinitionInvalid), 400, "What was given does not fit"),
    (
        (
            *(ReasonMissing, EvidenceMissing, OutcomeUnknown, HoldWouldBeOver),
            *(CapacityUnusable, SelectionInvalid),
        ),
        400,
        "It can't be done like that",
    ),
    (
        (NotPossible, ValueUnavailable, ApprovalNeeded),
        409,
        "As it stands now, this can't be done",
    ),
)


def refused(error: FulfillmentError, **extra: Any) -> Problem | None:
    """What an operation was refused with; None for what is no refusal."""
    for kinds, status, title in _REFUSED:
        if isinstance(error, kinds):
            faults = getattr(error, "faults", ())
            return Problem(
                status=status,
                code=error.code,
                title=title,
                detail="Nothing was done. Correct everything in `errors` and send it again."
                if faults
                else str(error),
                errors=[
                    {"path": fault.path, "code": fault.code, "message": fault.message}
                    for fault in faults
                ],
                **extra,
            )
    return None


def _nothing_here() -> Problem:
    return Problem(
        status=404,
        code="request.not_found",
        title="There is nothing at this address",
        detail="Check the address; /api/docs/ lists those that exist.",
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404: problem documents below /api/, pages elsewhere."""
    if request.path.startswith("/api/"):
        return _plain(request, _nothing_here())
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400."""
    if request.path.startswith("/api/"):
        return _plain(
            request,
            Problem(
                status=400,
                code="request.malformed",
                title="The request can't be read",
                detail="Check its headers and its address; the host must be one that this "
                "installation answers to (OMS_ALLOWED_HOSTS).",
            ),
        )
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    if request.path.startswith("/api/"):
        return _plain(
            request,
            Problem(
                status=500,
                code="server.error",
                title="Something went wrong here",
                detail="It is in the log of the web process. Send the same request again, with "
                "the same Idempotency-Key; nothing is done twice.",
            ),
        )
    return defaults.server_error(request)


def _plain(request: HttpRequest, problem: Problem) -> JsonResponse:
    return JsonResponse(
        {**problem.document, "instance": request.path},
        status=problem.status_code,
        content_type=CONTENT_TYPE,
    )
