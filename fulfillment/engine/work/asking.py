"""Manual tasks in a unit of work: what moves them, and how they keep in step with their tasks.

What can't go on by itself is a question to somebody: a task that has come to wait for a person in
a unit has a manual task when that unit commits, and one that waits no more has none. Both are done
at the end of the unit, for all of its tasks together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from fulfillment.definitions.graph import Node, NodeKind
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import allocate, clean
from fulfillment.engine.work import casework, events, sla
from fulfillment.engine.work.unit import InTrouble, Unit
from fulfillment.models import (
    MANUAL_OPEN,
    UNRESOLVED,
    CaseCategory,
    ManualOrigin,
    ManualTask,
    Plan,
    Task,
    Trouble,
)
from fulfillment.states import TaskState

ESCALATE = "escalate"
REPAIRED = "REPAIRED"
WAIVED = "WAIVED"
REJECTED = "REJECTED"
NEEDS_CUSTOMER_INPUT = "NEEDS_CUSTOMER_INPUT"
NEEDS_REQUOTE = "NEEDS_REQUOTE"
CANCEL_ORDER = "CANCEL_ORDER"
_EFFECTS: Mapping[str, str] = {
    REPAIRED: "repair",
    WAIVED: "waive",
    REJECTED: "refuse",
    NEEDS_CUSTOMER_INPUT: "ask_customer",
    NEEDS_REQUOTE: "requote",
    CANCEL_ORDER: "cancel",
}
_OUTCOMES: Mapping[Trouble, tuple[str, ...]] = {
    # Nothing has been sent: all of it may still be left out.
    Trouble.INPUT: tuple(_EFFECTS),
    Trouble.REPORT: tuple(_EFFECTS),
    # It has been done, so nobody waives or rejects it.
    Trouble.OUTPUTS: (REPAIRED, NEEDS_CUSTOMER_INPUT, CANCEL_ORDER),
    # Rejected: it has not been done, and is not to be.
    Trouble.UNKNOWN: (REPAIRED, REJECTED, NEEDS_CUSTOMER_INPUT, CANCEL_ORDER),
}
_WHAT_TO_DO: Mapping[Trouble, str] = {
    Trouble.INPUT: "Put right what it names: in the order, in the system that has told it, or in "
    "what the task before it has returned. Then choose REPAIRED: it is looked at again, and goes "
    "on if all is there.",
    Trouble.OUTPUTS: "Find the values where it was done and enter them. Then choose REPAIRED.",
    Trouble.UNKNOWN: "Look up by the key in {target} whether it has done {action}, and enter "
    "what you have found. REPAIRED goes on from there: with what was done, or by sending it "
    "again. REJECTED: it has not been done, and is not to be.",
    Trouble.REPORT: "Find out whether it has happened. If so, enter what was to be reported and "
    "choose REPAIRED.",
}
HAPPENED, REFERENCE = "happened", "reference"
"""What a person enters about an unknown outcome, beside the outputs."""
_RELEASE = """
UPDATE fulfillment_hold SET released_at = %s, released_by = %s, release_reason = %s
WHERE id = %s AND released_at IS NULL RETURNING id
"""
# As the rows of manual tasks were before this unit, and as those of cases are by now.
_LEFT_BEHIND = f"""
SELECT DISTINCT c.id FROM fulfillment_casetask t
JOIN fulfillment_falloutcase c ON c.id = t.case_id
JOIN fulfillment_manualtask m ON m.task_id = t.task_id AND m.state = 'AWAITING_CUSTOMER'
WHERE t.task_id = ANY(%s::bigint[]) AND t.left_at IS NOT NULL
  AND c.state = 'AWAITING_CUSTOMER' AND c.{UNRESOLVED}
  AND NOT EXISTS (
    SELECT 1 FROM fulfillment_casetask o
    JOIN fulfillment_manualtask w ON w.task_id = o.task_id AND w.state = 'AWAITING_CUSTOMER'
    WHERE o.case_id = c.id AND o.left_at IS NULL)
ORDER BY c.id
"""
_COMMANDS = """
SELECT DISTINCT ON (task_id) task_id, idempotency_key, payload FROM fulfillment_command
WHERE task_id = ANY(%s::bigint[]) ORDER BY task_id, revision DESC
"""


def trouble_of(*, node: Node, category: CaseCategory, reason_code: str) -> Trouble:
    """Why a task that now waits for a person does, by what its case says."""
    if reason_code == "outputs_unusable":
        return Trouble.OUTPUTS
    if category is CaseCategory.DATA:
        return Trouble.INPUT
    return Trouble.REPORT if node.kind is NodeKind.WAIT else Trouble.UNKNOWN


def move(
    unit: Unit,
    *,
    manual: ManualTask,
    transition: Callable[[ManualTask], Any],
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Apply a transition of the manual task's state machine and note it for the audit."""
    before = str(manual.state)
    transition(manual)
    unit.changed_manual[manual.pk] = manual
    _record(unit, manual, name=transition.__name__, before=before, cause=cause, details=details)


def note(
    unit: Unit,
    *,
    manual: ManualTask,
    name: str,
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Something about it has changed that is not its state."""
    unit.changed_manual[manual.pk] = manual
    _record(unit, manual, name=name, before=str(manual.state), cause=cause, details=details)


def put(unit: Unit, *, manual: ManualTask, task: Task, cause: str) -> None:
    """A new one, for the audit and for those who listen."""
    unit.new_manual.append(manual)
    _record(unit, manual, name="open", before="", cause=cause)
    tell(unit, event_type=events.MANUAL_OPENED, manual=manual, task=task)


def tell(unit: Unit, *, event_type: str, manual: ManualTask, task: Task) -> None:
    unit.emit(
        fulfillment_id=task.fulfillment_id,
        event_type=event_type,
        payload=events.of_manual(manual, task),
        plan_id=task.plan_id,
        task_id=task.id,
    )


def still_open(unit: Unit, *, task_ids: Collection[int]) -> dict[int, ManualTask]:
    """By task, what is to be decided about these, as the unit has it."""
    found = {
        row.pk: unit.changed_manual.get(row.pk, row)
        for row in ManualTask.objects.filter(
            task__in=task_ids, state__in=sorted(MANUAL_OPEN)
        ).order_by("pk")
    }
    found |= {row.pk: row for row in unit.new_manual if row.task_id in task_ids}
    return {row.task_id: row for row in found.values() if row.state in MANUAL_OPEN}


def keep_in_step(unit: Unit) -> None:
    """Withdraw what nobody has to decide any more, and ask for what has come to wait."""
    gone = [pk for pk in unit.repaired if not _waits(unit, pk)]
    _await_no_more(unit, gone)
    asked = [pk for pk in unit.troubles if _waits(unit, pk)]
    if not gone and not asked:
        return
    known = still_open(unit, task_ids=[*gone, *asked])
    for task_id in sorted(set(gone) & known.keys()):
        _withdraw(unit, known[task_id], unit.tasks[task_id])
    # What is new about one that somebody is asked about already is told there.
    if new := [
        pk
        for pk in sorted(asked)
        if pk not in known or known[pk].trouble not in (Trouble.NONE, unit.troubles[pk].trouble)
    ]:
        _ask(unit, new, known)


def _await_no_more(unit: Unit, gone: Collection[int]) -> None:
    """Cases of several tasks whose time stood still for one that has left: it goes on."""
    if not gone:
        return
    unit.raw.execute(_LEFT_BEHIND, [list(gone)], prepare=True)
    for (case_id,) in unit.raw.fetchall():
        case = casework.locked(case_id)
        casework.go_on(unit, case=case, cause="Who had asked the customer is not in it any more.")


def _waits(unit: Unit, task_id: int) -> bool:
    return TaskState(unit.tasks[task_id].state) is TaskState.AWAITING_MANUAL


def let_go(unit: Unit, *, manual: ManualTask, reason: str) -> bool:
    """Release the hold that was placed until there is a new quote; whether this has."""
    if manual.hold_id is None:
        return False
    unit.changed_manual[manual.pk] = manual
    values = [unit.now, unit.actor[:150], clean(reason, 2000), manual.hold_id]
    unit.raw.execute(_RELEASE, values, prepare=True)
    is_released = unit.raw.fetchone() is not None
    if is_released:
        states = ("PLACED", "RELEASED")
        record_hold(unit, manual=manual, name="release_hold", states=states, cause=reason)
    manual.hold_id = None
    return is_released


def record_hold(
    unit: Unit, *, manual: ManualTask, name: str, states: tuple[str, str], cause: str
) -> None:
    """For the audit: its hold was placed, or released."""
    reference = unit.fulfillments[manual.fulfillment_id].order_reference
    unit.record(
        fulfillment_id=manual.fulfillment_id,
        entity="hold",
        entity_id=str(manual.hold_id),
        name=name,
        before=states[0],
        after=states[1],
        cause=cause,
        details={"subject": f"order:{reference}"},
    )


def _withdraw(unit: Unit, manual: ManualTask, task: Task) -> None:
    let_go(unit, manual=manual, reason="Its task needs no decision any more.")
    manual.awaits, manual.stopped_at = "", None
    manual.decided_at = unit.now
    move(unit, manual=manual, transition=ManualTask.withdraw, cause=f"its task is {task.state}")
    tell(unit, event_type=events.MANUAL_WITHDRAWN, manual=manual, task=task)


def _ask(unit: Unit, task_ids: Collection[int], known: Mapping[int, ManualTask]) -> None:
    unit.raw.execute(_COMMANDS, [list(task_ids)], prepare=True)
    sent = {task_id: rest for task_id, *rest in unit.raw.fetchall()}
    fresh = [task_id for task_id in task_ids if task_id not in known]
    ids = dict(zip(fresh, allocate(unit.raw, "fulfillment_manualtask", len(fresh)), strict=True))
    for task_id in task_ids:
        task = unit.tasks[task_id]
        found = unit.troubles[task_id]
        manual = known.get(task_id) or ManualTask(
            id=ids[task_id],
            task_id=task_id,
            fulfillment_id=task.fulfillment_id,
            origin=ManualOrigin.REPAIR,
            queue=found.route.owner_queue,
            role=found.route.role[:63],
            calendar=found.route.calendar,
            due_at=sla.deadline(
                calendar=found.route.calendar, start=unit.now, within=found.route.within
            ),
            otherwise=ESCALATE,
            opened_at=unit.now,
        )
        _describe(unit, manual, task, found, sent.get(task_id))
        if task_id in known:
            note(unit, manual=manual, name="describe", cause=found.title)
        else:
            put(unit, manual=manual, task=task, cause=found.title)


def _describe(
    unit: Unit, manual: ManualTask, task: Task, found: InTrouble, sent: list[Any] | None
) -> None:
    plan = unit.plans[task.plan_id]
    node = graphs.routed(plan.graph_id, task.node, task.route)
    what_to_do = _WHAT_TO_DO[found.trouble].format(target=node.target, action=node.action)
    manual.trouble = found.trouble
    manual.title = clean(found.title, 200)
    manual.instructions = f"{found.explanation} {what_to_do}"
    manual.outcomes = {name: _EFFECTS[name] for name in _outcomes(found.trouble, node)}
    manual.fields = _fields(found.trouble, node)
    manual.context = _context(plan, task, node, found, sent)


def _outcomes(trouble: Trouble, node: Node) -> tuple[str, ...]:
    if trouble is Trouble.OUTPUTS and not node.target:
        return _OUTCOMES[Trouble.REPORT]  # Nothing was done; somebody has told something.
    return _OUTCOMES[trouble]


def _fields(trouble: Trouble, node: Node) -> dict[str, Any]:
    """What has to be entered. Of an unknown outcome the outputs count only if it has happened."""
    if trouble is Trouble.INPUT:
        return {}
    unknown = trouble is Trouble.UNKNOWN
    outputs = {
        name: {"type": output.type, "optional": output.optional or unknown}
        for name, output in node.outputs.items()
    }
    if not unknown:
        return outputs
    asked = {
        HAPPENED: {"type": "boolean", "optional": False},
        REFERENCE: {"type": "string", "optional": True},
    }
    return {**asked, **outputs, HAPPENED: asked[HAPPENED]}


def _context(
    plan: Plan, task: Task, node: Node, found: InTrouble, sent: list[Any] | None
) -> dict[str, Any]:
    known = graphs.context_of(plan)
    items = known.get("items", {})
    key, payload = sent or ("", None)
    return {
        "order": known.get("order", {}),
        "items": {
            str(position): items[str(position)] for position in node.items if str(position) in items
        },
        "task": {
            "key": task.key,
            "title": node.title,
            "target": node.target,
            "action": node.action,
            "reference": task.reference,
            "sends": task.sends,
            "idempotency_key": key,
            "payload": payload,
            "why": found.explanation,
        },
    }


def _record(
    unit: Unit,
    manual: ManualTask,
    *,
    name: str,
    before: str,
    cause: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    unit.record(
        fulfillment_id=manual.fulfillment_id,
        entity="manual",
        entity_id=str(manual.pk),
        name=name,
        before=before,
        after=str(manual.state),
        cause=cause,
        details=dict(details or {}),
    )
