"""The settings of a target system's row: what is wrong with them, said so that one can mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AdapterMisconfigured(Exception):
    """The row of a target system can't become an adapter; the message says what to change.

    `code` is stable: "adapter.unknown_kind" or "adapter.bad_settings".
    """

    def __init__(self, message: str, *, code: str = "adapter.bad_settings") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def refuse_unknown_settings(
    *, target: str, settings: Mapping[str, Any], known: frozenset[str]
) -> None:
    """Raise AdapterMisconfigured for a setting nobody reads: a typo must not pass in silence."""
    unknown = sorted(set(settings) - known)
    if unknown:
        allowed = f"Allowed are: {', '.join(sorted(known))}." if known else "It takes none."
        raise AdapterMisconfigured(
            f"Target system {target!r} has settings that its adapter does not know: "
            f"{', '.join(unknown)}. Remove or rename them. {allowed}"
        )
