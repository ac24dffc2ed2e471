"""One spelling per JSON value, so that equal content has equal hashes wherever it was stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Keys sorted, no white space, whole numbers without a fraction.

    Raises ValueError for numbers that JSON does not have (infinities, not-a-number).
    """
    return json.dumps(
        _plain(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )


def content_hash(document: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hex characters."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    # PostgreSQL's jsonb hands 1e16 back as an integer: both spellings must hash the same.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
