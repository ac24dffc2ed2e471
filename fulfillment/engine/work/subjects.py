"""What milestones and signals are about. Nobody's report reaches the orders of somebody else."""

from __future__ import annotations

_LONGEST = 250
"""As `Signal.subject`."""


def of_order(*, business_key: str) -> str:
    """The subject of an order's milestones."""
    return f"order:{business_key}"[:_LONGEST]


def of_key(*, owner: str, key: str) -> str:
    """The subject of a signal about one of the owner's business keys."""
    return f"key:{owner}/{key}"[:_LONGEST]


def owner_of(*, business_key: str) -> str:
    """Whose order it is: `7` of `7/WEB-1`. Whoever owns none has an empty name."""
    owner, slash, _ = business_key.partition("/")
    return owner if slash else ""
