"""What clients and people do by hand, done once and answered once per Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from adapters.strict_json import dumps
from fulfillment.authority.actors import Actor, client, person
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms.api.authentication import holder_of
from oms.api.idempotency import idempotency_key, key_reused
from oms.api.problems import CONTENT_TYPE
from oms.intake.replay import Answer, KeyReused, Replayed, answer_once
from oms.models import ApiClient

Reason = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=r"\S")]


def actor_of(request: Request) -> Actor:
    """The client, or the person, whose key it is."""
    found = holder_of(request)
    if isinstance(found, ApiClient):
        return client(name=found.name, owner=found.owner)
    return person(name=found.get_username(), user_id=found.pk)


def answered_once(
    request: Request,
    *,
    data: Any,
    fulfillment_ids: Sequence[int],
    answer: Callable[[Unit], Answer],
) -> Replayed:
    """What `answer` says, in one unit under these locks; under a key, what it said before.

    An answer that raises leaves nothing behind. Raises Problem for a key that can't be one, or is
    that of another request.
    """
    key = idempotency_key(request)

    def work(unit: Unit) -> Replayed:
        if key is None:
            return Replayed(answer=answer(unit), is_replay=False)
        return answer_once(
            unit,
            holder=holder_of(request),
            idempotency_key=key,
            # The same words about something else are another request.
            body=dumps({"path": request.path, "body": data}),
            answer=lambda: answer(unit),
        )

    try:
        return run_unit(work, fulfillment_ids=fulfillment_ids, actor=actor_of(request).name)
    except KeyReused:
        raise key_reused() from None


def replied(request: Request, done: Replayed) -> Response:
    """What was answered, as a response; a problem as a problem."""
    status, body = done.answer
    if status > 399:
        body = {**body, "instance": request.path}
    response = Response(body, status=status, content_type=CONTENT_TYPE if status > 399 else None)
    if done.is_replay:
        response["Idempotent-Replayed"] = "true"
    return response


def operate(
    request: Request,
    *,
    data: Any,
    fulfillment_id: int,
    operation: Callable[[], dict[str, Any]],
) -> Response:
    """200 with what `operation` returns; or, under a key, with what it returned before."""
    done = answered_once(
        request,
        data=data,
        fulfillment_ids=[fulfillment_id],
        answer=lambda _: (200, operation()),
    )
    return replied(request, done)
