"""`GET /api/v1/commands/{idempotency_key}`: what became of one command, by its key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from drf_spectacular.utils import extend_schema
from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from adapters.contract import OutcomeKind
from fulfillment.models import Attempt, Command, Purpose
from fulfillment.states import TaskState
from oms.api import schema
from oms.api.authentication import client_of
from oms.api.problems import Problem
from oms.models import Order

_ATTEMPTS_AT_MOST = 200


class AttemptOut(BaseModel):
    """One try to send it, or one question about it; without an end it is under way."""

    number: int
    purpose: Purpose
    started_at: datetime
    finished_at: datetime | None
    outcome: OutcomeKind | None
    code: str
    message: str


class CommandOut(BaseModel):
    idempotency_key: str
    order: str
    task: str
    target: str
    action: str
    revision: int
    replaced: bool = Field(description="Corrected data made a newer command; `state` is its.")
    created_at: datetime
    state: TaskState
    reason: str = Field(description="What keeps the task, in plain words; empty when nothing.")
    reference: str = Field(description="The target system's own name for what it did.")
    outputs: dict[str, Any] | None
    attempts: list[AttemptOut] = Field(description="The newest 200, oldest first.")


class CommandDetail(APIView):
    @extend_schema(
        operation_id="read_command",
        tags=["Orders"],
        summary="What became of a command, by its idempotency key",
        responses={200: CommandOut, **schema.problems(401, 403, 404, 503)},
    )
    def get(self, request: Request, idempotency_key: str) -> Response:
        """For systems that know an effect by its key only: what is known about it here, and
        every attempt with its times and outcome. Only commands of the client's own orders.
        """
        command = (
            Command.objects.filter(idempotency_key=idempotency_key)
            .select_related("task")
            .defer("payload")
            .first()
        )
        own = Order.objects.filter(client=client_of(request))
        order = None if command is None else own.filter(fulfillment=command.fulfillment_id).first()
        if command is None or order is None:
            raise Problem(
                status=404,
                code="command.not_found",
                title="There is no such command",
                detail="No command of your orders has this key. A key is the 64 hexadecimal "
                "digits that the target system got as Idempotency-Key.",
            )
        return Response(_document(command, order).model_dump(mode="json"))


def _document(command: Command, order: Order) -> CommandOut:
    newest = Attempt.objects.filter(command=command).order_by("-number")[:_ATTEMPTS_AT_MOST]
    return CommandOut(
        idempotency_key=command.idempotency_key,
        order=order.reference,
        task=command.task.key,
        target=command.target_id,
        action=command.action,
        revision=command.revision,
        replaced=Command.objects.filter(
            task=command.task_id, revision__gt=command.revision
        ).exists(),
        created_at=command.created_at,
        state=TaskState(command.task.state),
        reason=command.task.blocked_reason,
        reference=command.task.reference,
        outputs=command.task.outputs,
        attempts=[
            AttemptOut(
                number=attempt.number,
                purpose=Purpose(attempt.purpose),
                started_at=attempt.started_at,
                finished_at=attempt.finished_at,
                outcome=OutcomeKind(attempt.outcome) if attempt.outcome else None,
                code=attempt.code,
                message=attempt.message,
            )
            for attempt in reversed(newest)
        ],
    )
