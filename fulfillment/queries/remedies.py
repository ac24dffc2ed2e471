"""What people may do about a wait: each remedy with the command and the call that does it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from fulfillment.definitions.node_parts import NodeKind
from fulfillment.states import Cause, TaskState
from fulfillment.waits.inner_waits import Wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    action: str
    """A stable word for it."""
    words: str
    command: str = ""
    """Of `manage.py`; words in capitals are for whoever types it."""
    call: str = ""
    """Of the API."""


def remedies(*, wait: Wait, order_reference: str) -> Iterator[Remedy]:
    """The first is the one to think of first; none when it goes on by itself soon."""
    match wait.cause:
        case Cause.HOLD if wait.hold_id is not None:
            yield Remedy(
                action="release_hold",
                words="Release the hold, when its reason is gone.",
                command=f"holds release {wait.hold_id} --reason REASON",
                call=f"POST /api/v1/holds/{wait.hold_id}/release",
            )
        case Cause.HUMAN | Cause.CUSTOMER if wait.manual_id is not None:
            yield Remedy(
                action="decide",
                words="Decide it, or ask those who may.",
                command=f"manual decide {wait.manual_id} OUTCOME --reason REASON",
                call=f"POST /api/v1/manual-tasks/{wait.manual_id}/decision",
            )
        case Cause.CUSTOMER:
            yield _report(
                wait,
                order_reference,
                action="ask_customer",
                words="Ask the customer; what was promised stands still meanwhile.",
            )
        case Cause.MILESTONE | Cause.SIGNAL:
            yield _report(
                wait,
                order_reference,
                words="Ask whoever should report it; or report it, when it has happened.",
            )
        case Cause.OTHER_ORDER:
            yield _report(
                wait,
                "ORDER",
                words="Look what becomes of that order; or report it for that order, when it has "
                "happened.",
            )
        case Cause.LOCK:
            yield Remedy(
                action="look_at_locks",
                words="It has its turn by itself; look who has what it needs.",
                command="resources list",
            )
        case Cause.REPAIR:
            yield from _repairs(wait, order_reference)
        case Cause.PAUSED:
            yield Remedy(
                action="resume_target",
                words=f"Resume {wait.target}, when it is well.",
                command=f"targets resume {wait.target} --reason REASON",
            )
        case Cause.RATE | Cause.CAPACITY:
            yield Remedy(
                action="raise_limits",
                words=f"Wait for its turn; or raise the limits of {wait.target}, if its owner "
                "agrees.",
                command=f"targets status {wait.target}",
            )
        case Cause.TARGET:
            yield Remedy(
                action="look_at_workers",
                words="It may be sent at once; when it is not, look whether the workers of its "
                "queue run.",
                command=f"targets status {wait.target}",
            )
        case Cause.RETRY | Cause.BREAKER | Cause.UNKNOWN_OUTCOME | Cause.REPORT:
            yield Remedy(
                action="ask_owner",
                words=f"It goes on by itself; if that takes too long, ask the owner of "
                f"{wait.target}.",
                command=f"targets status {wait.target}",
            )
        case _:
            return


def _report(wait: Wait, order_reference: str, *, words: str, action: str = "report") -> Remedy:
    """Telling what it waits for by hand: of an order, or about a business key of its owner."""
    if not wait.report_key:
        return Remedy(
            action=action,
            words=words,
            command=f"signals send {wait.report} {order_reference} --reason REASON",
            call=f"POST /api/v1/orders/{order_reference}/milestones",
        )
    key = shlex.quote(wait.report_key)
    return Remedy(
        action=action,
        words=words,
        command=f"signals send {wait.report} {order_reference} --key {key} --reason REASON",
        call="POST /api/v1/signals",
    )


def _repairs(wait: Wait, order_reference: str) -> Iterator[Remedy]:
    if wait.state is TaskState.FAILED_FINAL and wait.kind in (NodeKind.COMMAND, NodeKind.GATHER):
        yield Remedy(
            action="retry",
            words="Try it again, when what made it fail is mended.",
            command=f"tasks retry {order_reference} {wait.task} --reason REASON",
            call=f"POST /api/v1/orders/{order_reference}/tasks/{wait.task}/retry",
        )
        return
    if wait.report:
        yield _report(
            wait,
            "ORDER" if wait.report_is_of_other else order_reference,
            words="Report it, when it has happened after all: that still ends it.",
        )
    yield Remedy(
        action="look_up",
        words="Look it up where it was to happen: only a person can tell how it stands.",
        command="cases list",
    )
