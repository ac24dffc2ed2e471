"""`POST /api/v1/callbacks/{target}`: what target systems report, signed by them."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import Annotated, Literal

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.contract import Outcome, OutcomeKind
from fulfillment.engine.callbacks import Report, receive
from fulfillment.models import TargetSystem
from oms.api.parsing import RawParser, parse_json, raw_body, validated
from oms.api.problems import Problem
from oms.api.schema import problems

TOLERANCE_SECONDS = 300
"""How old a signature may be, and how far ahead the sender's clock: a repeat that is older was
signed anew by its sender, so only a recording is refused."""
_SIGNATURE = re.compile(r"t=(?P<at>[0-9]{1,12}),v1=(?P<mac>[0-9a-f]{64})")

_OUTCOMES = {
    "succeeded": OutcomeKind.SUCCEEDED,
    "rejected": OutcomeKind.REJECTED,
    "failed": OutcomeKind.FAILED,
}


class CallbackError(BaseModel):
    model_config = ConfigDict(extra="ignore")
    code: Annotated[str, StringConstraints(max_length=100)] = ""
    message: Annotated[str, StringConstraints(max_length=2000)] = ""
    retryable: bool = False


class CallbackIn(BaseModel):
    """A report on one command. Members that are not known here are kept, and not read."""

    model_config = ConfigDict(extra="allow")
    event_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    status: Literal["succeeded", "rejected", "failed"]
    reference: Annotated[str, StringConstraints(max_length=200)] | None = None
    outputs: dict[str, JsonValue] = Field({}, description="What the workflow's task declares.")
    error: CallbackError | None = None


class ReceiptOut(BaseModel):
    """What became of the report; all of these are final, and none needs to be sent again."""

    disposition: Literal["APPLIED", "REDUNDANT", "CONFLICTING", "UNMATCHED"]
    duplicate: bool


class Callbacks(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (RawParser,)

    @extend_schema(
        operation_id="report_outcome",
        tags=["Target systems"],
        summary="A target system reports what became of a command",
        parameters=[
            OpenApiParameter(
                "X-Signature",
                OpenApiTypes.STR,
                location=OpenApiParameter.HEADER,
                required=True,
                description="`t=<unix seconds>,v1=<hex HMAC-SHA256 of '<t>.' and the body>`",
            )
        ],
        request={"application/json": CallbackIn},
        responses={200: ReceiptOut, **problems(400, 401, 413, 503)},
        auth=[],
    )
    def post(self, request: Request, target: str) -> Response:
        """The same event may come any number of times, in any order; it moves a task once."""
        body = raw_body(request)
        _check_signature(target, request.headers.get("X-Signature", ""), body)
        report = validated(CallbackIn, parse_json(body))
        if not TargetSystem.objects.filter(pk=target).exists():
            raise Problem(
                status=404,
                code="callback.target_unknown",
                title="There is no such target system",
                detail=f"No row describes {target!r}; see `manage.py targets list`.",
            )
        error = report.error or CallbackError()
        receipt = receive(
            report=Report(
                source=target,
                event_id=report.event_id,
                idempotency_key=report.idempotency_key,
                outcome=Outcome(
                    kind=_OUTCOMES[report.status],
                    outputs=report.outputs,
                    reference=report.reference or "",
                    code=error.code,
                    message=error.message,
                    retryable=error.retryable,
                ),
                body=report.model_dump(mode="json"),
            )
        )
        return Response({"disposition": receipt.disposition, "duplicate": receipt.duplicate})


def _check_signature(target: str, header: str, body: bytes) -> None:
    secret = settings.OMS_CALLBACK_SECRETS.get(target) or settings.OMS_CALLBACK_SECRET
    match = _SIGNATURE.fullmatch(header)
    if match is None:
        raise _unsigned("missing", "Sign the body, and send X-Signature: t=…,v1=….")
    expected = hmac.new(secret.encode(), match["at"].encode() + b"." + body, hashlib.sha256)
    if not secret or not hmac.compare_digest(expected.hexdigest(), match["mac"]):
        raise _unsigned("wrong", f"Both sides need the same secret for {target[:60]!r}.")
    if abs(time.time() - int(match["at"])) > TOLERANCE_SECONDS:
        raise _unsigned("too_old", "Sign anew when sending again, and check both clocks.")


def _unsigned(what: str, detail: str) -> Problem:
    return Problem(
        status=401,
        code=f"callback.signature_{what}",
        title="The signature does not hold",
        detail=detail,
    )
