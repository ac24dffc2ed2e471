"""The keys that seal audit trails: outside of the database, told apart by their ids. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = hashlib.sha256(b"").hexdigest()
"""The digest over no rows."""


def key_id(key: str) -> str:
    """How a key is named where it may be seen; nothing of it can be told from that."""
    return hashlib.sha256(b"audit key id:" + key.encode()).hexdigest()[:12]


def by_id(keys: Sequence[str]) -> Mapping[str, str]:
    """The keys by their ids."""
    return {key_id(key): key for key in keys}


def seal(*, key: str, document: Any) -> str:
    """HMAC-SHA256 (hex) over a JSON document in its one canonical form."""
    told = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), told.encode(), hashlib.sha256).hexdigest()


def holds(*, key: str, document: Any, sealed: str) -> bool:
    """Whether a document is the one that was sealed with this key."""
    return hmac.compare_digest(seal(key=key, document=document), sealed)
