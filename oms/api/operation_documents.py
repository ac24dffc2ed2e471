"""What the API answers about operations: what there is, what it would do, what it has done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from fulfillment.models import Approval
from fulfillment.operations import Done, Offer, Preview, Repair
from fulfillment.operations.offering import (
    approvals_of,
    help_of,
    is_high_risk,
    schema_of,
    title_of,
)


class ApprovalRule(BaseModel):
    when: str
    approved_by: str = Field(description="The permission that whoever approves it has.")


class OperationKind(BaseModel):
    """One thing that may be done by hand."""

    action: str
    title: str
    what_it_does: str
    subjects: list[str] = Field(description="Kinds of subjects: `task` means `task:12`.")
    parameters: dict[str, Any] = Field(description="JSON schema of `parameters`.")
    needs_evidence: bool
    is_high_risk: bool = Field(description="Being an administrator is not enough for it.")
    approvals: list[ApprovalRule] = Field(description="When another person has to approve it.")


class OperationKinds(BaseModel):
    operations: list[OperationKind]


class OfferOut(BaseModel):
    action: str
    title: str
    is_possible: bool = Field(description="It makes sense now, as far as that can be told.")
    is_allowed: bool = Field(description="You may do it there.")
    why_not: str | None
    approved_by: str | None = Field(description="Who else has to approve it.")
    needs_evidence: bool


class Offers(BaseModel):
    subject: str
    operations: list[OfferOut]


class OperationPreview(BaseModel):
    """What it would do now; nothing was changed."""

    action: str
    subject: str
    version: str = Field(description="For `expected_version`: what was looked at.")
    told: str
    before: dict[str, Any]
    after: dict[str, Any]
    transitions: list[dict[str, str]]
    commands: list[dict[str, Any]] = Field(description="What target systems would be asked for.")
    customer_impact: str
    financial_impact: str
    approved_by: str | None


class OperationDone(BaseModel):
    """What was done, as the record of operations has it."""

    action: str
    subject: str
    record: int = Field(description="Its number in the record of operations.")
    told: str
    before: dict[str, Any]
    after: dict[str, Any]
    customer_impact: str
    financial_impact: str
    authority: str = Field(description="What allows it.")


class AskedFor(BaseModel):
    """It waits for another person; it is done in the moment when they approve."""

    id: int
    action: str
    subject: str
    state: str
    told: str = Field(description="What it will do.")
    approved_by: str
    requested_by: str
    requested_at: datetime
    expires_at: datetime


class OperationAsked(BaseModel):
    approval: AskedFor


def kind_document(repair: Repair) -> OperationKind:
    return OperationKind(
        action=repair.action,
        title=title_of(repair),
        what_it_does=help_of(repair),
        subjects=[repair.about, *repair.also_about],
        parameters=schema_of(repair),
        needs_evidence=repair.needs_evidence,
        is_high_risk=is_high_risk(repair),
        approvals=[
            ApprovalRule(when=when, approved_by=needs) for when, needs in approvals_of(repair)
        ],
    )


def offers_document(*, subject: str, offers: Sequence[Offer]) -> dict[str, Any]:
    found = Offers(
        subject=subject,
        operations=[
            OfferOut(
                action=offer.repair.action,
                title=title_of(offer.repair),
                is_possible=offer.is_possible,
                is_allowed=offer.is_allowed,
                why_not=offer.why_not or None,
                approved_by=offer.needs,
                needs_evidence=offer.repair.needs_evidence,
            )
            for offer in offers
        ],
    )
    return found.model_dump(mode="json")


def preview_document(*, action: str, subject: str, preview: Preview) -> dict[str, Any]:
    found = OperationPreview(
        action=action,
        subject=subject,
        version=preview.version,
        transitions=[dict(one) for one in preview.transitions],
        commands=[dict(one) for one in preview.commands],
        approved_by=preview.needs,
        **_what(preview.done),
    )
    return found.model_dump(mode="json")


def done_document(*, action: str, subject: str, done: Done, authority: str) -> dict[str, Any]:
    found = OperationDone(
        action=action, subject=subject, record=done.record, authority=authority, **_what(done)
    )
    return found.model_dump(mode="json")


def asked_document(approval: Approval) -> dict[str, Any]:
    asked = AskedFor(
        id=approval.pk,
        action=approval.action,
        subject=approval.subject,
        state=approval.state,
        told=approval.told,
        approved_by=approval.needs,
        requested_by=approval.requested_by.get_username(),
        requested_at=approval.requested_at,
        expires_at=approval.expires_at,
    )
    return OperationAsked(approval=asked).model_dump(mode="json")


def _what(done: Done) -> Mapping[str, Any]:
    return {
        "told": done.told,
        "before": dict(done.before),
        "after": dict(done.after),
        "customer_impact": done.customer_impact,
        "financial_impact": done.financial_impact,
    }
