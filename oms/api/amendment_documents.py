"""Amendments as the API tells them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from fulfillment.definitions.assessment import Becomes
from fulfillment.definitions.concern import ChangeKind
from oms.api.change_documents import ChargeOut, RefusalOut
from oms.changes.amending import Found
from oms.changes.documents import as_submitted
from oms.changes.requesting import Wish
from oms.models import AmendmentRequest, AmendmentState, Mode, OrderRevision


class DifferenceOut(BaseModel):
    """What is new; items by `item_id`."""

    order: list[ChangeKind] = Field(description="About the order as a whole.")
    items: dict[str, list[ChangeKind]] = Field(description="About items that stay.")
    come: list[str]
    gone: list[str]


class TaskFateOut(BaseModel):
    """What becomes of one task."""

    task: str
    title: str
    becomes: Becomes
    items: list[str]
    is_done: bool = Field(description="It has been done, or may have been.")
    undo: str | None = Field(description="`<target> <action>` that undoes it.")
    why: str
    customer_impact: str
    financial_impact: str
    legal_impact: str


class AssessmentOut(BaseModel):
    tasks: list[TaskFateOut]
    charges: list[ChargeOut]
    waits_for: list[str] = Field(
        description="Tasks that are under way; what became of them has to be known first."
    )
    offers: list[Mode] = Field(description="Modes by which it is possible, when it is refused.")


class PictureNode(BaseModel):
    task: str
    title: str
    kind: str
    items: list[str]
    target: str | None
    action: str | None
    becomes: Becomes


class PictureEdge(BaseModel):
    """Between tasks, by their keys."""

    source: str = Field(alias="from")
    to: str
    type: str


class PictureOut(BaseModel):
    """The plan as it is and as it would be, in one graph."""

    nodes: list[PictureNode]
    edges: list[PictureEdge]


class AmendmentPreview(AssessmentOut):
    """What would become of the order; nothing has been changed."""

    version: int
    mode: Mode = Field(description="How it would come about.")
    possible: bool
    change: DifferenceOut
    refusals: list[RefusalOut]
    graph: PictureOut
    change_order: dict[str, Any] | None = Field(
        description="The order that would follow, with the mode change_order."
    )


class AmendmentOut(AssessmentOut):
    """A request to amend, and what became of it."""

    number: int
    version: int = Field(description="The order version that it makes.")
    state: AmendmentState
    mode: Mode = Field(description="As it was asked for.")
    chosen: Mode | None = Field(description="How it came about, or is to; null: in no way.")
    reason: str
    requested_by: str
    requested_at: datetime
    decided_at: datetime | None
    finished_at: datetime | None
    change: DifferenceOut
    refusals: list[RefusalOut]
    change_order: str | None = Field(description="The order that changes what this one has made.")
    href: str


class AmendmentDetail(AmendmentOut):
    order: dict[str, Any] = Field(description="The revised order, as it was submitted.")
    replaced: dict[str, Any] | None = Field(
        description="The order as it was before; null unless it was changed."
    )


class AmendmentList(BaseModel):
    amendments: list[AmendmentOut]


def preview_document(found: Found, wish: Wish) -> dict[str, Any]:
    change = found.change
    mode = wish.mode if change is None else Mode.CHANGE_ORDER
    answer = AmendmentPreview(
        **found.document(),
        version=wish.version,
        mode=Mode.AMEND if mode is Mode.AUTO else mode,
        possible=not found.refusals,
        change=DifferenceOut(**found.difference.document(found.names)),
        refusals=[RefusalOut(**one) for one in found.refusals],
        graph=PictureOut.model_validate(found.graph()),
        change_order=None if change is None else as_submitted(change),
    )
    return answer.model_dump(mode="json", by_alias=True)


def amendment_document(request: AmendmentRequest) -> AmendmentOut:
    """Read it with its order and its change order."""
    return AmendmentOut(**_members(request))


def amendment_detail(request: AmendmentRequest) -> AmendmentDetail:
    replaced = None
    if request.state == AmendmentState.APPLIED:
        before = OrderRevision.objects.filter(order=request.order, version__lt=request.version)
        replaced = before.latest("version").document
    return AmendmentDetail(**_members(request), order=request.document, replaced=replaced)


def _members(request: AmendmentRequest) -> dict[str, Any]:
    nothing: dict[str, Any] = {"tasks": [], "charges": [], "waits_for": [], "offers": []}
    said = {**nothing, **request.assessment}
    if request.state != AmendmentState.ASSESSING:
        said["waits_for"] = []
    return {
        **said,
        "number": request.number,
        "version": request.version,
        "state": request.state,
        "mode": request.mode,
        "chosen": request.chosen or None,
        "reason": request.reason,
        "requested_by": request.requested_by,
        "requested_at": request.requested_at,
        "decided_at": request.decided_at,
        "finished_at": request.finished_at,
        "change": request.difference,
        "refusals": request.refusals,
        "change_order": request.change_order.reference if request.change_order else None,
        "href": f"/api/v1/orders/{request.order.reference}/amendments/{request.number}",
    }
