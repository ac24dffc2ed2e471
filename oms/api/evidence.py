"""`GET /orders/{id}/evidence`: everything about one order in one file, for people who may."""

from __future__ import annotations

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from oms.api import schema
from oms.api.authentication import IsPerson
from oms.api.operating import Reason, actor_of
from oms.api.orders import query_of
from oms.api.requests import Closed
from oms.evidence.packing import taken


class EvidenceQuery(Closed):
    reason: Reason


class OrderEvidence(APIView):
    permission_classes = (IsPerson,)

    @extend_schema(
        operation_id="take_evidence",
        tags=["Orders"],
        summary="Everything about an order in one file",
        parameters=[schema.EVIDENCE_REASON],
        responses={
            (200, "application/zip"): OpenApiResponse(OpenApiTypes.BINARY),
            **schema.problems(400, 401, 403, 404, 503),
        },
    )
    def get(self, request: Request, reference: str) -> FileResponse:
        """A zip of JSON and plain text, sealed; `manage.py evidence verify` checks it. Who takes
        it, and why, is recorded."""
        asked = query_of(EvidenceQuery, request)
        return FileResponse(
            taken(reference=reference, actor=actor_of(request), reason=asked.reason),
            as_attachment=True,
            filename=f"evidence-{reference}.zip",
            content_type="application/zip",
        )
