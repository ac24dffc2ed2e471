"""The hash chain of the audit trail. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_encoded = json.JSONEncoder(sort_keys=True).encode


def link(
    *,
    previous: str,
    sequence: int,
    entity: str,
    entity_id: str,
    name: str,
    from_state: str,
    to_state: str,
    actor: str,
    cause: str,
    details: Mapping[str, Any],
    occurred_at: datetime,
) -> str:
    """SHA-256 (hex) over the hash before it and every value of the row.

    A JSON list keeps the boundaries between values, so no two rows share an encoding.
    """
    values = (
        previous,
        sequence,
        entity,
        entity_id,
        name,
        from_state,
        to_state,
        actor,
        cause,
        details,
        occurred_at.astimezone(UTC).isoformat(timespec="microseconds"),
    )
    return hashlib.sha256(_encoded(values).encode()).hexdigest()
