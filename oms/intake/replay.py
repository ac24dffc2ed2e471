"""Idempotency-Key: the same request, sent again, is answered again and done once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User

from fulfillment.engine.work.unit import Unit
from oms.intake.requests import OrderRequest
from oms.intake.submission import Submitted, run_intake, submit_in
from oms.models import ApiClient, Submission

KEY = re.compile(r"[\x21-\x7e]{1,255}")

Answer = tuple[int, dict[str, Any]]
"""HTTP status and JSON body."""


class KeyReused(Exception):
    """This client, or this person, has used the key for another request."""

    code = "idempotency.key_reused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    answer: Answer
    is_replay: bool


def submit_once(
    *,
    client: ApiClient,
    requests: Sequence[OrderRequest],
    idempotency_key: str,
    body: bytes,
    respond: Callable[[Sequence[Submitted]], Answer],
) -> Replayed:
    """`submit` under a key: orders and answer are stored in one transaction.

    `body` and errors as in `answer_once`.
    """

    def work(unit: Unit) -> Replayed:
        return answer_once(
            unit,
            holder=client,
            idempotency_key=idempotency_key,
            body=body,
            answer=lambda: respond(submit_in(unit, client=client, requests=requests)),
        )

    return run_intake(work, actor=f"client {client.name}")


def answer_once(
    unit: Unit,
    *,
    holder: ApiClient | User,
    idempotency_key: str,
    body: bytes,
    answer: Callable[[], Answer],
) -> Replayed:
    """What `answer` returns, stored in this unit; or what it returned under this key before.

    Keys are told apart by their `holder`.

    A second request with the key waits for the first. Raises KeyReused when `body` (what is
    asked for, canonical) is another one.
    """
    digest = hashlib.sha256(body).hexdigest()
    is_person = isinstance(holder, User)
    whose: dict[str, Any] = {"user": holder} if is_person else {"client": holder}
    unit.raw.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))",
        [f"{'person' if is_person else 'submission'}:{idempotency_key}", holder.pk],
    )
    known = Submission.objects.filter(**whose, idempotency_key=idempotency_key).first()
    if known is not None:
        if known.request_hash != digest:
            raise KeyReused(idempotency_key)
        return Replayed(answer=(known.response_status, known.response_body), is_replay=True)
    status, document = answer()
    Submission.objects.create(
        **whose,
        idempotency_key=idempotency_key,
        request_hash=digest,
        response_status=status,
        response_body=document,
        created_at=unit.now,
    )
    return Replayed(answer=(status, document), is_replay=False)
