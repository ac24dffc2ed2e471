"""`POST /api/v1/callbacks/{target}`: what target systems report, signed by them."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from django.conf import settings
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.reports import ReportIn, outcome_of
from adapters.signatures import SignatureRefused, verify
from fulfillment.engine.dispatch.callbacks import EventIdReused, Receipt, Report, receive
from fulfillment.models import PARKED, TargetSystem
from oms.api import schema
from oms.api.parsing import RawParser, parse_json, raw_body, validated
from oms.api.problems import Problem

_NOBODYS = secrets.token_hex()
"""Where no secret is set nothing is believed, after the same time as elsewhere."""
_REFUSALS = {
    "missing": "Send webhook-id (1 to 200 visible ASCII characters, no full stop), "
    "webhook-timestamp (unix seconds) and webhook-signature (v1,<base64>).",
    "wrong": "Both sides need the same secret for this target, and the body must arrive as it "
    "was signed.",
    "too_old": "Sign anew when sending again, and check both clocks.",
}


class ReceiptOut(BaseModel):
    """What became of the report; none of these needs to be sent again."""

    disposition: Literal["APPLIED", "REDUNDANT", "CONFLICTING", "UNMATCHED", "DISMISSED"]
    duplicate: bool


class Callbacks(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    parser_classes = (RawParser,)

    @extend_schema(
        operation_id="report_outcome",
        tags=["Target systems"],
        summary="A target system reports what became of a command",
        parameters=schema.WEBHOOK,
        request={"application/json": ReportIn},
        responses={
            200: ReceiptOut,
            202: ReceiptOut,
            **schema.problems(400, 401, 404, 409, 411, 413, 503),
        },
        auth=[],
    )
    def post(self, request: Request, target: str) -> Response:
        """Signed as Standard Webhooks. The same message may come any number of times, in any
        order; it moves a task once. 202 means that it is kept, but belongs to no task so far.
        """
        body = raw_body(request)
        event_id = _verified(request, target, body)
        report = validated(ReportIn, parse_json(body))
        if report.event_id not in (None, event_id):
            raise Problem(
                status=400,
                code="callback.event_id_differs",
                title="The message has two ids",
                detail=f"Its header says {event_id!r}, its body says {report.event_id!r}. Leave "
                "event_id out of the body, or send the same.",
            )
        if not TargetSystem.objects.filter(pk=target).exists():
            raise Problem(
                status=404,
                code="callback.target_unknown",
                title="There is no such target system",
                detail=f"No row describes {target!r}; see `manage.py targets list`.",
            )
        receipt = _received(
            Report(
                source=target,
                event_id=event_id,
                idempotency_key=report.idempotency_key,
                outcome=outcome_of(report=report),
                attempt=report.attempt,
                body=report.model_dump(mode="json"),
            )
        )
        return Response(
            {"disposition": receipt.disposition, "duplicate": receipt.duplicate},
            status=202 if receipt.disposition in PARKED else 200,
        )


def _verified(request: Request, target: str, body: bytes) -> str:
    """The message's id. An unknown target and a wrong signature are answered alike."""
    live = settings.OMS_CALLBACK_SECRETS.of(target) or (_NOBODYS,)
    try:
        return verify(headers=request.headers, body=body, secrets=live, now_seconds=time.time())
    except SignatureRefused as refused:
        raise Problem(
            status=401,
            code=f"callback.signature_{refused.what}",
            title="The signature does not hold",
            detail=_REFUSALS[refused.what],
        ) from None


def _received(report: Report) -> Receipt:
    try:
        return receive(report=report)
    except EventIdReused as error:
        raise Problem(
            status=409,
            code=error.code,
            title="This webhook-id belongs to another report",
            detail=f"{report.event_id!r} was the id of a report on another command. Nothing was "
            "done now. Give every report an id of its own, and repeat it under the same id.",
        ) from None
