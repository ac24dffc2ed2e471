"""The `Idempotency-Key` header: read, and refused when it belongs to another request."""

from __future__ import annotations

from rest_framework.request import Request

from oms.api.problems import Problem
from oms.intake.replay import KEY, KeyReused


def idempotency_key(request: Request) -> str | None:
    """What the client sent. Raises Problem 400 for a key that can't be one."""
    key: str | None = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise Problem(
            status=400,
            code="idempotency.key_invalid",
            title="The Idempotency-Key can't be used",
            detail="Use 1 to 255 visible ASCII characters without spaces, such as a UUID.",
        )
    return key


def key_reused() -> Problem:
    """The answer to a key that this client has used for another request."""
    return Problem(
        status=409,
        code=KeyReused.code,
        title="This Idempotency-Key belongs to another request",
        detail="The key was sent before, with another body. Nothing was done now. Use a new "
        "key for a new request, and the same body for the same key.",
    )
