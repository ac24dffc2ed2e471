"""What the API answers about manual tasks and fan-outs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from fulfillment.models import ManualOrigin, ManualState, ManualTask, Trouble
from fulfillment.waits.elements import FanOutProgress


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
    claimed_by: str | None = Field(description="Who has taken it; nobody else decides it.")
    awaits: Literal["customer", "commerce"] | None = Field(
        description="Whose answer is awaited; its time stands still meanwhile."
    )
    question: str | None = Field(description="What they were asked last.")
    outcomes: dict[
        str,
        Literal[
            "proceed", "refuse", "undo", "repair", "waive", "ask_customer", "requote", "cancel"
        ],
    ]
    outcome: str | None = Field(description="What was decided.")
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None


class ManualOut(ManualSummary):
    instructions: str
    fields: dict[str, FieldOut] = Field(description="What has to be entered, by name.")
    context: dict[str, Any] = Field(description="The order and what was known, as it was then.")


class ManualWorkSummary(ManualSummary):
    """As people see it: with what is asked because something has gone wrong."""

    origin: ManualOrigin
    trouble: Trouble | None = Field(description="Of a REPAIR: why its task can't go on by itself.")
    calendar: str | None = Field(description="The business calendar that its time is counted by.")
    claimed_at: datetime | None
    escalations: int


class ManualWorkOut(ManualWorkSummary, ManualOut):
    pass


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
    return ManualOut(**_summary(manual), **_whole(manual)).model_dump(mode="json")


def manual_work_summary(manual: ManualTask) -> ManualWorkSummary:
    return ManualWorkSummary(**_summary(manual), **_of_people(manual))


def manual_work_document(manual: ManualTask) -> dict[str, Any]:
    answer = ManualWorkOut(**_summary(manual), **_of_people(manual), **_whole(manual))
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


def _whole(manual: ManualTask) -> dict[str, Any]:
    return {
        "instructions": manual.instructions,
        "fields": {name: FieldOut(**spec) for name, spec in manual.fields.items()},
        "context": manual.context,
    }


def _of_people(manual: ManualTask) -> dict[str, Any]:
    return {
        "origin": manual.origin,
        "trouble": manual.trouble or None,
        "calendar": manual.calendar or None,
        "claimed_at": manual.claimed_at,
        "escalations": manual.escalations,
    }


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
        "claimed_by": manual.claimed_by or None,
        "awaits": manual.awaits or None,
        "question": manual.question or None,
        "outcomes": manual.outcomes,
        "outcome": manual.outcome or None,
        "decided_by": manual.decided_by or None,
        "decided_at": manual.decided_at,
        "reason": manual.reason or None,
    }
