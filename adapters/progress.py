"""How far a target system has come, by its own account: told by it, and told to it again.

It travels as one line of ASCII, so that it fits into a header beside the payload.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 4000
"""Characters; what is larger belongs to where the work is done, with its name in here."""


def line_of(progress: Mapping[str, Any]) -> str:
    """Compact JSON in ASCII, names sorted."""
    return json.dumps(progress, separators=(",", ":"), sort_keys=True, allow_nan=False)


def fault_of(progress: Any) -> str:
    """What is wrong with it, to follow the word progress; empty when nothing is."""
    if not isinstance(progress, Mapping):
        return "is not an object"
    length = len(line_of(progress))
    return f"has {length} characters as JSON, and may have {LONGEST}" if length > LONGEST else ""
