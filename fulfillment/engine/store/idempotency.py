"""The idempotency key of a command (reference §10). Pure."""

from __future__ import annotations

import hashlib
import json


def idempotency_key(
    *,
    order_reference: str,
    order_version: int,
    plan_id: int,
    task_id: int,
    action: str,
    revision: int,
    target: str,
) -> str:
    """64 hex characters, computed once and stored on the command.

    A command made from corrected data after a known no-effect outcome is another semantic
    action: its revision is part of it.
    """
    semantic_action = action if revision == 1 else f"{action}#{revision}"
    values = (order_reference, order_version, plan_id, task_id, semantic_action, target)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
