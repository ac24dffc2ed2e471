"""What a subject of operations is and how it stands now, in a few words, before it is operated on.

A fixed number of queries for each; the order desk adds what it knows of orders (`register`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.db.models import Model, QuerySet

from fulfillment.definitions.signs import in_words
from fulfillment.engine.store import graphs
from fulfillment.errors import SubjectUnknown
from fulfillment.keeping import keepers
from fulfillment.models import (
    BulkJob,
    FalloutCase,
    Hold,
    InboundEvent,
    Incident,
    ManualTask,
    Plan,
    Resource,
    Task,
)
from fulfillment.operations.subjects import number_of
from fulfillment.waits.conditions import held_by, quoted, statuses
from fulfillment.waits.waiting import waiting

Fact = tuple[str, str]
"""What it is called, and what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    title: str
    entity: str = ""
    """Of what kind its state is, as the audit trail names it."""
    state: str = ""
    """Empty: it has none."""
    facts: tuple[Fact, ...] = ()
    order_reference: str = ""


Row = TypeVar("Row", bound=Model)
Describe = Callable[[str], Standing | None]
_known: dict[str, Describe] = {}


def register(*, kind: str, describe: Describe) -> None:
    """Called while apps start, by whoever knows more of this kind of subject."""
    assert _known.setdefault(kind, describe) is describe, kind


def standing(*, subject: str) -> Standing | None:
    """Of a subject such as `task:12`; None of what is not there, or has no more to it."""
    kind, _, name = subject.partition(":")
    describe = _known.get(kind)
    if describe is None:
        return None
    try:
        return describe(name)
    except SubjectUnknown:
        return None


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else ""


def said(*facts: Fact) -> tuple[Fact, ...]:
    """Those that say something."""
    return tuple((name, value) for name, value in facts if value)


def _row(rows: QuerySet[Row], name: str, *, about: str) -> Row:
    """The one of that number. Raises SubjectUnknown."""
    row = rows.filter(pk=number_of(name, about=about)).first()
    if row is None:
        raise SubjectUnknown(f"There is no {about} {name}.")
    return row


def _task(name: str) -> Standing | None:
    rows = Task.objects.select_related("plan", "fulfillment").defer("plan__context")
    reference, slash, key = name.partition("/")
    if slash:
        rows = rows.filter(fulfillment__order_reference=reference, key=key, round=0)
    else:
        rows = rows.filter(pk=number_of(name, about="task"))
    task = rows.order_by("-plan__order_version", "-plan__version", "-pk").first()
    if task is None:
        return None
    node = graphs.routed(task.plan.graph_id, task.node, task.route)
    order = task.fulfillment
    waits = waiting(fulfillment_ids=[order.pk]).get(order.pk, [])
    why = next((one.reason for one in waits if one.task_id == task.pk), "")
    sent = f"{task.sends} times" if task.sends != 1 else "once"
    return Standing(
        title=f"{node.title} ({task.key})",
        entity="task",
        state=str(task.state),
        order_reference=order.order_reference,
        facts=said(
            ("Asks", f"{task.target_id or node.target} to do {node.action}" if node.action else ""),
            ("Was sent", sent if task.sends else ""),
            ("Waits", why),
            ("Last said", task.blocked_reason if task.blocked_reason not in why else ""),
            ("Reference there", task.reference),
            ("Since", moment(task.changed_at)),
        ),
    )


def _plan(name: str) -> Standing:
    rows = Plan.objects.select_related("fulfillment").defer("context")
    plan = _row(rows, name, about="plan")
    done = plan.mandatory_total - plan.mandatory_open
    return Standing(
        title=f"Plan {plan.pk} of {plan.fulfillment.order_reference}",
        entity="plan",
        state=str(plan.state),
        order_reference=plan.fulfillment.order_reference,
        facts=said(
            ("Done", f"{done} of the {plan.mandatory_total} tasks that the order needs"),
            ("Waits", plan.stuck_reason or plan.blocked_reason),
        ),
    )


def _target(name: str) -> Standing | None:
    name = name.partition("/")[0]
    found = statuses(names=[name]).get(name)
    if found is None:
        return None
    figures = [f"{number} {words}" for words, number in found.figures().items()]
    return Standing(
        title=found.fitness.row.title or name,
        facts=said(
            ("Is", ", ".join(found.in_words(state) for state in found.states)),
            ("Because", found.why),
            ("Has", ", ".join(figures)),
        ),
    )


def _case(name: str) -> Standing:
    case = _row(FalloutCase.objects.all(), name, about="case")
    whose = f"{case.assigned_to}, in queue {case.owner_queue}" if case.assigned_to else ""
    return Standing(
        title=f"Case {case.pk}: {case.title}",
        entity="case",
        state=str(case.state),
        facts=said(
            ("Explained", case.explanation),
            ("Who has it", whose or f"nobody yet; queue {case.owner_queue}"),
            ("Look at it by", moment(case.sla_due_at)),
            ("For the customer", case.customer_impact),
        ),
    )


def _manual(name: str) -> Standing:
    rows = ManualTask.objects.select_related("fulfillment").defer("context")
    manual = _row(rows, name, about="manual task")
    return Standing(
        title=manual.title,
        entity="manual",
        state=str(manual.state),
        order_reference=manual.fulfillment.order_reference,
        facts=said(
            ("Asked for", manual.instructions),
            ("Who has it", manual.claimed_by or f"nobody yet; queue {manual.queue}"),
            ("Is for", f"members of {manual.role}" if manual.role else ""),
            ("Decide by", moment(manual.due_at)),
            ("Asked of the " + manual.awaits, manual.question if manual.awaits else ""),
            ("Decided", f"{in_words(manual.outcome)}, by {manual.decided_by}")
            if manual.outcome
            else ("", ""),
        ),
    )


def _hold(name: str) -> Standing:
    hold = _row(Hold.objects.all(), name, about="hold")
    gone = f"by {hold.released_by}, {moment(hold.released_at)}: {quoted(hold.release_reason)}"
    return Standing(
        title=f"Hold {hold.pk}",
        facts=said(("Says", held_by(hold)), ("Was released", gone if hold.released_at else "")),
    )


def _event(name: str) -> Standing:
    rows = InboundEvent.objects.select_related("task__fulfillment").defer("task__outputs")
    event = _row(rows, name, about="event")
    about = f"{event.task.key} of {event.task.fulfillment.order_reference}" if event.task else ""
    return Standing(
        title=f"Event {event.event_id} of {event.source}",
        entity="event",
        state=str(event.disposition),
        facts=said(
            ("Came in", moment(event.received_at)),
            ("Is about", about or "nothing that is known: no command has its key"),
            ("Its key", event.idempotency_key),
        ),
    )


def _lock(name: str) -> Standing | None:
    lock = name.rpartition("@")[0] or name
    found = keepers(names={lock}).get(lock, [])
    if not found:
        return None
    kept = [f"{one.name}, since {moment(one.since)}" for one in found]
    return Standing(title=f"Lock {lock}", facts=(("Is kept by", "; ".join(kept)),))


def _incident(name: str) -> Standing:
    incident = _row(Incident.objects.all(), name, about="incident")
    return Standing(
        title=f"Incident {incident.pk}: {incident.title}",
        entity="incident",
        state=str(incident.state),
        facts=said(
            ("Since", moment(incident.opened_at)),
            ("Who has it", incident.assigned_to or f"nobody yet; queue {incident.owner_queue}"),
            ("Cause", incident.cause),
            ("Fix", incident.fix),
        ),
    )


def _bulk(name: str) -> Standing:
    job = _row(BulkJob.objects.all(), name, about="bulk job")
    return Standing(
        title=f"Bulk job {job.pk}",
        entity="bulk",
        state=str(job.state),
        facts=said(
            ("Why", job.reason),
            ("Drafted by", job.actor),
            ("It says", job.state_reason),
        ),
    )


def _resource(name: str) -> Standing | None:
    row = Resource.objects.filter(pk=name).first()
    if row is None:
        return None
    return Standing(
        title=f"Resource {row.name}",
        facts=(("Capacity", f"{row.capacity} at once, of each key"),),
    )


def _every() -> Iterator[tuple[str, Describe]]:
    yield "task", _task
    yield "plan", _plan
    yield "target", _target
    yield "action", _target
    yield "case", _case
    yield "manual", _manual
    yield "hold", _hold
    yield "event", _event
    yield "lock", _lock
    yield "incident", _incident
    yield "bulk", _bulk
    yield "resource", _resource


_known.update(_every())
