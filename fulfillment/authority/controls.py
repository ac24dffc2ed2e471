"""The actions that one person alone may not do, and who has to approve them (reference §30). Pure.

| action | approved by |
|---|---|
| waive or skip what charges, or bills | finance |
| waive or skip anything else | operations |
| complete an order by force | senior operations |
| give an order up | senior operations |
| cancel after activation | senior operations, and the customer is told |
| retry what charges or bills, or correct it | payment control |
| enter or correct what a target system is told | operations |
| say what became of an unknown outcome | operations; where it charges, payment control |
| create a compensation | operations up to `MATRIX_LIMIT`, finance above it |
| break a lock | senior operations |

What is done in another way asks for the same (`Repair.needs`, `Found.implies`): planning anew what
has failed to charge, matching an event to a charge, and whatever else comes down to one of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from fulfillment.actions import Action
from fulfillment.authority.context import MONEY, Context

MATRIX_LIMIT = Decimal(1000)
"""Of any currency: what operations may undo without finance."""

_BY_STRICTNESS = (
    Action.APPROVE_OPERATIONS,
    Action.APPROVE_FINANCE,
    Action.APPROVE_PAYMENT,
    Action.APPROVE_SENIOR,
)


def strictest(needed: Iterable[Action | None]) -> Action | None:
    """Who has to approve all of it, where its parts need different people, or nobody."""
    found = [one for one in needed if one is not None]
    return max(found, key=_BY_STRICTNESS.index, default=None)


def suffices(*, given: Action | None, needed: Action | None) -> bool:
    """Whether what was approved by `given` may be done where `needed` is asked for."""
    return needed is None or (given is not None and strictest((given, needed)) is given)


def approval_for(*, action: Action, context: Context) -> Action | None:
    """The action whose holder has to approve it; None when it needs nobody else."""
    money = not MONEY.isdisjoint(context.domains)
    match action:
        case Action.TASK_WAIVE | Action.TASK_SKIP:
            return Action.APPROVE_FINANCE if money else Action.APPROVE_OPERATIONS
        case Action.TASK_RETRY:
            return Action.APPROVE_PAYMENT if money else None
        case Action.TASK_CORRECT | Action.TASK_RECONCILE:
            return Action.APPROVE_PAYMENT if money else Action.APPROVE_OPERATIONS
        case Action.TASK_REFERENCE:
            return Action.APPROVE_OPERATIONS
        case Action.PLAN_COMPENSATE:
            much = any(amount > MATRIX_LIMIT for amount in context.amounts.values())
            return Action.APPROVE_FINANCE if much or money else Action.APPROVE_OPERATIONS
        case Action.ORDER_CANCEL:
            return Action.APPROVE_SENIOR if context.is_activated else None
        case Action.ORDER_FORCE_COMPLETE | Action.PLAN_TERMINATE | Action.LOCK_BREAK:
            return Action.APPROVE_SENIOR
        case _:
            return None
