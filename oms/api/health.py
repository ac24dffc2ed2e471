"""`GET /api/v1/health`: whether this process can do its work."""

from __future__ import annotations

from django.db import connection
from drf_spectacular.utils import extend_schema
from pydantic import BaseModel
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from oms.api.schema import problems


class HealthOut(BaseModel):
    status: str


class Health(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        operation_id="health",
        tags=["Service"],
        summary="Whether orders can be taken in",
        responses={200: HealthOut, **problems(503)},
        auth=[],
    )
    def get(self, request: Request) -> Response:
        """Needs the database alone: without the broker orders are taken in, and go on later."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return Response({"status": "ok"})
