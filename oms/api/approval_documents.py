"""What the API answers about approvals."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, JsonValue

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.models import Approval, ApprovalState
from fulfillment.operations.approving import may_decide


class ApprovalOut(BaseModel):
    """What one person asks for, and what another one has said to it."""

    id: int
    action: str
    subject: str
    order: str | None
    state: ApprovalState
    approved_by: str = Field(description="The action whose holder may approve it.")
    may_decide: bool = Field(description="Whether you are one of them, and have not asked for it.")
    told: str = Field(description="What it will do, as it was previewed.")
    parameters: dict[str, JsonValue]
    reason: str
    evidence: str
    version: str = Field(description="Of the subject, when it was asked for.")
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision: str | None = Field(description="Why it was decided so, or why it has ended.")
    record: int | None = Field(description="The record of what was done, once it was.")


class ApprovalPage(BaseModel):
    approvals: list[ApprovalOut]
    next: str | None = Field(description="The next page, or null.")


def approval_document(
    approval: Approval, *, actor: Actor, held: Collection[Action]
) -> dict[str, Any]:
    """Of a row with its people, its order and its records at hand."""
    payload = approval.payload
    order, decider = approval.fulfillment, approval.decided_by
    record = next(iter(approval.operations.all()), None)
    found = ApprovalOut(
        id=approval.pk,
        action=approval.action,
        subject=approval.subject,
        order=order.order_reference if order else None,
        state=ApprovalState(approval.state),
        approved_by=approval.needs,
        may_decide=may_decide(approval=approval, actor=actor, held=held),
        told=approval.told,
        parameters=payload["parameters"],
        reason=payload["reason"],
        evidence=payload["evidence"],
        version=approval.version,
        requested_by=approval.requested_by.get_username(),
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
        decided_by=decider.get_username() if decider else None,
        decided_at=approval.decided_at,
        decision=approval.decision_reason or None,
        record=record.pk if record else None,
    )
    return found.model_dump(mode="json")
