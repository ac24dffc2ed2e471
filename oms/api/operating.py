"""What clients and people do by hand, done once and answered once per Idempotency-Key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from adapters.strict_json import dumps
from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, client, person
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from oms.api.authentication import holder_of
from oms.api.idempotency import idempotency_key, key_reused
from oms.api.problems import CONTENT_TYPE
from oms.intake.replay import Answer, KeyReused, Replayed, answer_once
from oms.models import ApiClient, Order

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
    wanted: operations.Request,
    document: Callable[[operations.Done], dict[str, Any]],
) -> Response:
    """200 with the `document` of what was done; or, under a key, with what it was before.

    Whether it is allowed is asked before the unit that keeps the answer: a denial stays on record.
    Raises as `operations.perform` does.
    """
    found = operations.prepared(actor=actor_of(request), request=wanted)
    found.alone()
    committed: list[operations.Done] = []

    def answer(unit: Unit) -> Answer:
        # Flushed, so that the document is of what it has become.
        committed[:] = [found.commit()]
        return 200, document(committed[0])

    done = answered_once(
        request, data=data, fulfillment_ids=found.found.fulfillment_ids, answer=answer
    )
    if not done.is_replay:
        found.repair.afterwards(committed[0])
    return replied(request, done)


def permit(request: Request, *, action: Action, order: Order) -> None:
    """What a client does to an order of its own that is no repair. Raises Denied."""
    authorize(
        actor=actor_of(request),
        action=action,
        context=Context(
            subject=f"order:{order.reference}",
            order_reference=order.reference,
            owner=order.client.owner,
        ),
    )
