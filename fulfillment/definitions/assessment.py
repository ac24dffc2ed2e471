"""What giving up an order, or changing it, would mean: for its tasks, and in money. Pure values."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal


class Becomes(enum.StrEnum):
    """What becomes of one task of the running plan."""

    KEPT = "kept"
    WITHDRAWN = "withdrawn"
    """It has had no effect, and has no more."""
    UNDONE = "undone"
    STAYS = "stays"
    """What it did needs no undo, or has none."""
    REDONE = "redone"
    """It begins anew; what it did is undone before, if there is anything to undo."""
    NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """Of one task; `why` says in plain words what decides it."""

    key: str
    title: str
    becomes: Becomes
    items: tuple[int, ...]
    """Positions of the items that it serves."""
    is_done: bool = False
    """Something of it may have to be undone."""
    undo: str = ""
    """`<target> <action>` that undoes it; empty: nothing does."""
    why: str = ""
    customer_impact: str = ""
    financial_impact: str = ""
    legal_impact: str = ""


class Direction(enum.StrEnum):
    COST = "cost"
    """The customer pays it."""
    REFUND = "refund"
    """The customer gets it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Money that giving something up costs, or brings back."""

    task: str
    items: tuple[int, ...]
    direction: Direction
    amount: Decimal
    currency: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why it is not possible; `code` is stable."""

    code: str
    """point_of_no_return, irreversible, hold_lost, lock_in_use, not_plannable, unsafe."""
    message: str
    task: str = ""
    items: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a preview shows, and what is carried out: the same function makes both."""

    fates: tuple[Fate, ...]
    charges: tuple[Charge, ...]
    refusals: tuple[Refusal, ...]
    """Empty: it is possible."""
    in_flight: tuple[str, ...]
    """Keys of tasks whose outcome has to be known before it can be carried out."""

    def about(self, fates: Iterable[Fate]) -> Assessment:
        """The same, telling of these tasks only."""
        return replace(self, fates=tuple(fates))

    @property
    def is_at_rest(self) -> bool:
        return not self.in_flight
