"""Tasks of a client's orders: what has failed is tried again."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import NothingToRetry, ValueUnavailable
from fulfillment.models import Task
from oms.api import schema
from oms.api.operating import Reason, operate
from oms.api.orders import found_order, orders_of
from oms.api.parsing import json_body, validated
from oms.api.problems import Problem
from oms.api.requests import Closed
from oms.queries.orders import newest_plan


class RetryIn(Closed):
    reason: Reason


class Retried(BaseModel):
    tasks: list[str] = Field(description="What runs again: the task, or its failed elements.")


class TaskRetry(APIView):
    @extend_schema(
        operation_id="retry_task",
        tags=["Tasks"],
        summary="Try a task again that has failed for good",
        parameters=[schema.IDEMPOTENCY_KEY, schema.TASK],
        request=RetryIn,
        responses={200: Retried, **schema.problems(400, 401, 403, 404, 409, 413, 415, 503)},
    )
    def post(self, request: Request, reference: str, task: str) -> Response:
        """It is sent anew, with today's data and a key of its own: it had failed without effect.

        Of a fan-out that failed only the elements that failed run again.
        """
        data = json_body(request)
        wanted = validated(RetryIn, data)
        order = found_order(orders_of(request), reference)
        plan = newest_plan(order)
        # No key of a task is that long, and a NUL is in no column.
        row = None if "\0" in task else Task.objects.filter(plan=plan, key=task, round=0).first()
        if plan is None or row is None:
            raise Problem(
                status=404,
                code="task.unknown",
                title="The order has no such task",
                detail=f"{reference} has no task {task[:200]!r}; its graph names them. In an "
                "address, write [ as %5B and ] as %5D.",
            )
        try:
            return operate(
                request,
                data=data,
                wanted=operations.Request(
                    action=Action.TASK_RETRY, subject=f"task:{row.pk}", reason=wanted.reason
                ),
                document=lambda done: Retried(tasks=done.result["tasks"]).model_dump(mode="json"),
            )
        except NothingToRetry as error:
            raise Problem(
                status=409,
                code=error.code,
                title="There is nothing to try again",
                detail=str(error),
            ) from None
        except ValueUnavailable as error:
            raise Problem(
                status=409,
                code=error.code,
                title="What it is to be given can't be made",
                detail=f"{error} Nothing was done.",
            ) from None
