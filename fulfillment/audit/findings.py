"""What verifying finds, in the order in which it finds it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[str], None]
"""Is told now and then how far a long verification is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The first row of something that is not as it was written."""

    table: str
    place: str
    """Which row, such as `O-17, row 12` or `id 55`."""
    what: str
    """One or two plain sentences."""

    def __str__(self) -> str:
        return f"{self.table}, {self.place}: {self.what}"
