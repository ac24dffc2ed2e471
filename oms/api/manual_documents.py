"""What the API answers about manual tasks and fan-outs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from fulfillment.elements import FanOutProgress
from fulfillment.models import ManualState, ManualTask


class FieldOut(BaseModel):
    type: str
    optional: bool


class ManualSummary(BaseModel):
    id: int
    order: str
    task: str
    title: str
    state: ManualState
    queue: str
    role: str
    opened_at: datetime
    due_at: datetime | None = Field(
        description="Until when; null when that has passed and somebody has been told."
    )
    otherwise: str = Field(description="The outcome without a decision in time, or `escalate`.")
    outcomes: dict[str, Literal["proceed", "refuse", "undo"]]
    outcome: str | None = Field(description="What was decided.")
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None


class ManualOut(ManualSummary):
    instructions: str
    fields: dict[str, FieldOut] = Field(description="What has to be entered, by name.")
    context: dict[str, Any] = Field(description="The order and what was known, as it was then.")


class FanOutOut(BaseModel):
    """One list that the order works through, element by element."""

    task: str = Field(description="Ends when every element has.")
    title: str
    total: int
    started: int
    done: int
    failed: int
    failed_elements: list[int] = Field(description="Their numbers, from 1; the first hundred.")


def manual_summary(manual: ManualTask) -> ManualSummary:
    return ManualSummary(**_summary(manual))


def manual_document(manual: ManualTask) -> dict[str, Any]:
    answer = ManualOut(
        **_summary(manual),
        instructions=manual.instructions,
        fields={name: FieldOut(**spec) for name, spec in manual.fields.items()},
        context=manual.context,
    )
    return answer.model_dump(mode="json")


def fan_out_document(progress: FanOutProgress) -> FanOutOut:
    return FanOutOut(
        task=progress.task,
        title=progress.title,
        total=progress.total,
        started=progress.started,
        done=progress.done,
        failed=progress.failed,
        failed_elements=progress.failed_elements,
    )


def _summary(manual: ManualTask) -> dict[str, Any]:
    return {
        "id": manual.pk,
        "order": manual.fulfillment.order_reference,
        "task": manual.task.key,
        "title": manual.title,
        "state": manual.state,
        "queue": manual.queue,
        "role": manual.role,
        "opened_at": manual.opened_at,
        "due_at": manual.due_at,
        "otherwise": manual.otherwise,
        "outcomes": manual.outcomes,
        "outcome": manual.outcome or None,
        "decided_by": manual.decided_by or None,
        "decided_at": manual.decided_at,
        "reason": manual.reason or None,
    }
