"""Read model of approvals: how many wait for somebody, and how many they wait for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Q

from fulfillment.actions import APPROVALS, Action
from fulfillment.models import Approval, ApprovalState

MOST = 100
"""So many of each are counted; there are more when there is one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalQueue:
    """Of all that nobody has decided yet."""

    waiting: int
    for_me: int
    """I may decide them, as far as my permissions tell; where, is asked when I do."""
    mine: int
    """I have asked for them, so another person decides."""


def approval_queue(*, user_id: int, held: Collection[Action]) -> ApprovalQueue:
    """For somebody who holds these actions. Three queries."""

    def count(wanted: Q) -> int:
        rows = Approval.objects.filter(wanted, state=ApprovalState.REQUESTED)
        return rows[: MOST + 1].count()

    return ApprovalQueue(
        waiting=count(Q()),
        for_me=count(asked_of(user_id=user_id, held=held)),
        mine=count(Q(requested_by=user_id)),
    )


def asked_of(*, user_id: int, held: Collection[Action]) -> Q:
    """Approvals that somebody who holds these actions may decide: never their own."""
    needs = sorted(action.value for action in APPROVALS & set(held))
    return Q(needs__in=needs, state=ApprovalState.REQUESTED) & ~Q(requested_by=user_id)
