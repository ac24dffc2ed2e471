"""What clients do to their orders by hand, done once and answered once per Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from adapters.strict_json import dumps
from fulfillment.engine.work.unit import Unit, run_unit
from oms.api.authentication import client_of
from oms.api.idempotency import idempotency_key, key_reused
from oms.intake.replay import Answer, KeyReused, Replayed, answer_once

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"\S")]


def actor_of(request: Request) -> str:
    """As whom the logs know the client."""
    return f"client {client_of(request).name}"


def operate(
    request: Request,
    *,
    data: Any,
    fulfillment_id: int,
    operation: Callable[[], dict[str, Any]],
) -> Response:
    """200 with what `operation` returns; or, under a key, with what it returned before.

    An operation that raises leaves nothing behind, also no answer. Raises Problem for a key that
    can't be one, or is that of another request.
    """
    key = idempotency_key(request)

    def work(unit: Unit) -> Replayed:
        def answer() -> Answer:
            return 200, operation()

        if key is None:
            return Replayed(answer=answer(), is_replay=False)
        return answer_once(
            unit,
            client=client_of(request),
            idempotency_key=key,
            # The same words about something else are another request.
            body=dumps({"path": request.path, "body": data}),
            answer=answer,
        )

    try:
        done = run_unit(work, fulfillment_ids=[fulfillment_id], actor=actor_of(request))
    except KeyReused:
        raise key_reused() from None
    status, body = done.answer
    response = Response(body, status=status)
    if done.is_replay:
        response["Idempotent-Replayed"] = "true"
    return response
