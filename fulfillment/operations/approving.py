"""Four eyes: one person asks, another approves, and it is done in that moment or not at all.

An approval is bound to what it was asked for with (its payload), and to its subject as it was
then (its version). It expires, and it is used once. Who asks is asked for authority again when it
is carried out: a grant that was taken away meanwhile allows nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, ActorKind, person
from fulfillment.authority.authorizing import authorize
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    ApprovalNotOpen,
    ApprovalUnknown,
    Denied,
    FulfillmentError,
    NotPossible,
)
from fulfillment.models import Approval, ApprovalState
from fulfillment.operations.catalog import repair_of
from fulfillment.operations.records import log, now_of, reason_of
from fulfillment.operations.repair import Done, Prepared, Request, prepare

LASTS = timedelta(hours=24)


def ask_for_approval(*, prepared: Prepared) -> Approval:
    """Keep what somebody asks for until another person decides. The same again is the same one.

    Raises NotPossible when it could not be done now, and Denied for whoever is no person.
    """
    actor = prepared.why.actor
    if actor.user_id is None:
        raise Denied(
            f"{prepared.repair.action} needs two people, and {actor.name} is none. A person who "
            "may has to ask for it."
        )
    asker, needs = actor.user_id, prepared.needs
    assert needs is not None
    preview = prepared.preview()
    prepared.repair.confirm(preview.done, prepared.values)
    payload = _payload(prepared)

    def work(unit: Unit) -> Approval:
        known = Approval.objects.filter(
            action=prepared.repair.action,
            subject=prepared.found.subject,
            payload_hash=_hash(payload),
            state=ApprovalState.REQUESTED,
        ).first()
        if known is not None and known.version == preview.version:
            if known.requested_by_id != asker:
                raise NotPossible(
                    f"{known.requested_by.get_username()} has asked for the same already "
                    f"(approval {known.pk}). You may approve it, if your role allows."
                )
            return known
        if known is not None:
            move(unit, known, Approval.outdate, cause="asked for anew, as it is now")
        approval = Approval.objects.create(
            action=prepared.repair.action,
            subject=prepared.found.subject,
            fulfillment_id=next(iter(prepared.found.fulfillment_ids), None),
            needs=needs,
            payload=payload,
            payload_hash=_hash(payload),
            version=preview.version,
            told=preview.done.told,
            requested_by_id=asker,
            requested_at=unit.now,
            expires_at=unit.now + LASTS,
        )
        _audit(unit, approval, name="request", before="", cause=prepared.why.reason)
        return approval

    return run_unit(work, fulfillment_ids=prepared.found.fulfillment_ids, actor=actor.name)


def approve(*, approval_id: int, actor: Actor, reason: str) -> tuple[Approval, Done]:
    """Approve it, and carry it out in the same transaction.

    Raises ApprovalUnknown, ReasonMissing, Denied (also for whoever asked for it), ApprovalNotOpen
    when it was decided, has expired, or is about something that has changed, and NotPossible.
    """
    reason = reason_of(reason)
    approval = _known(approval_id)
    prepared = _prepared_again(approval)
    _check_is_another(approval, actor)
    for context in prepared.found.contexts:
        authorize(actor=actor, action=Action(approval.needs), context=context)

    def work(unit: Unit) -> tuple[Approval, Done]:
        row = _open(unit, approval_id)
        if row.payload_hash != _hash(row.payload):
            raise ApprovalNotOpen(
                f"Approval {row.pk} is not as it was asked for. Refuse it, and find out who has "
                "written to the database."
            )
        done = prepared.carry_out(unit, approval=row)
        row.decided_by_id = actor.user_id
        move(unit, row, Approval.execute, cause=reason, actor=actor.name)
        return row, done

    try:
        row, done = run_unit(
            work, fulfillment_ids=prepared.found.fulfillment_ids, actor=prepared.why.actor.name
        )
    except FulfillmentError:
        _outdate_if_changed(approval_id, prepared)
        raise
    return row, prepared.repair.afterwards(done)


def refuse(*, approval_id: int, actor: Actor, reason: str) -> Approval:
    """Another person says no. Raises as `approve` does."""
    reason = reason_of(reason)
    approval = _known(approval_id)
    _check_is_another(approval, actor)
    found = repair_of(approval.action).found(subject=approval.subject)
    for context in found.contexts:
        authorize(actor=actor, action=Action(approval.needs), context=context)
    return _decide(approval, Approval.refuse, actor, reason)


def withdraw(*, approval_id: int, actor: Actor, reason: str) -> Approval:
    """Whoever asked for it takes it back. Raises ApprovalUnknown, ReasonMissing, Denied and
    ApprovalNotOpen."""
    reason = reason_of(reason)
    approval = _known(approval_id)
    if actor.user_id is None or approval.requested_by_id != actor.user_id:
        raise Denied("Only whoever has asked for it takes it back; others refuse it.")
    return _decide(approval, Approval.withdraw, actor, reason)


def expire_approvals() -> int:
    """What nobody has decided in time is over; beat's part. Returns how many."""
    with cursor() as raw:
        now = now_of(raw)
    due = Approval.objects.filter(state=ApprovalState.REQUESTED, expires_at__lte=now)
    expired = 0
    for approval in due.order_by("pk")[:500]:

        def work(unit: Unit, pk: int = approval.pk) -> bool:
            row = Approval.objects.select_for_update().get(pk=pk)
            if row.state != ApprovalState.REQUESTED or row.expires_at > unit.now:
                return False
            move(unit, row, Approval.expire, cause="nobody has decided in time")
            return True

        expired += run_unit(work, fulfillment_ids=_locked(approval), actor="scanner")
    return expired


def move(
    unit: Unit,
    approval: Approval,
    transition: Callable[[Approval], None],
    *,
    cause: str,
    actor: str = "",
) -> None:
    """Apply a transition, write it, and note it for the audit."""
    before = str(approval.state)
    transition(approval)
    approval.decided_at = unit.now
    approval.decision_reason = cause
    approval.save()
    _audit(unit, approval, name=transition.__name__, before=before, cause=cause, actor=actor)


def _known(approval_id: int) -> Approval:
    approval = Approval.objects.filter(pk=approval_id).first()
    if approval is None:
        raise ApprovalUnknown(f"There is no approval {approval_id}; the list has their numbers.")
    return approval


def _prepared_again(approval: Approval) -> Prepared:
    """What was asked for, by whoever asked for it, with the authority that they have now."""
    asker = approval.requested_by
    payload = approval.payload
    return prepare(
        repair=repair_of(approval.action),
        actor=person(name=asker.get_username(), user_id=asker.pk),
        request=Request(
            action=Action(approval.action),
            subject=approval.subject,
            reason=payload["reason"],
            evidence=payload["evidence"],
            parameters=payload["parameters"],
            expected_version=approval.version,
        ),
    )


def _check_is_another(approval: Approval, actor: Actor) -> None:
    if actor.kind is not ActorKind.PERSON:
        raise Denied("Only a person who has logged in can decide this.")
    if approval.requested_by_id == actor.user_id:
        raise Denied("Whoever asks for it can't decide it: that is for another person.")


def _decide(
    approval: Approval, transition: Callable[[Approval], None], actor: Actor, reason: str
) -> Approval:
    def work(unit: Unit) -> Approval:
        row = _open(unit, approval.pk)
        row.decided_by_id = actor.user_id
        move(unit, row, transition, cause=reason, actor=actor.name)
        return row

    return run_unit(work, fulfillment_ids=_locked(approval), actor=actor.name)


def _open(unit: Unit, approval_id: int) -> Approval:
    """The row, locked: decided by nobody, and in time. Raises ApprovalNotOpen."""
    row = Approval.objects.select_for_update().get(pk=approval_id)
    if row.state != ApprovalState.REQUESTED:
        by = row.decided_by.get_username() if row.decided_by else "nobody"
        raise ApprovalNotOpen(
            f"Approval {row.pk} is {row.state}, by {by}: {row.decision_reason} It is used once; "
            "ask for it anew."
        )
    if row.expires_at <= unit.now:
        raise ApprovalNotOpen(
            f"Approval {row.pk} has expired at {row.expires_at:%Y-%m-%d %H:%M} UTC; ask for it "
            "anew."
        )
    return row


def _outdate_if_changed(approval_id: int, prepared: Prepared) -> None:
    """What it is about is another by now: nobody can approve it any more."""

    def work(unit: Unit) -> None:
        row = Approval.objects.select_for_update().get(pk=approval_id)
        if row.state != ApprovalState.REQUESTED:
            return
        if row.version != prepared.repair.version(unit, prepared.found):
            move(unit, row, Approval.outdate, cause="What it is about has changed since.")

    run_unit(work, fulfillment_ids=prepared.found.fulfillment_ids, actor="engine")


def _locked(approval: Approval) -> list[int]:
    return [] if approval.fulfillment_id is None else [approval.fulfillment_id]


def _payload(prepared: Prepared) -> dict[str, Any]:
    return {
        "parameters": prepared.values.model_dump(mode="json"),
        "reason": prepared.why.reason,
        "evidence": prepared.why.evidence,
    }


def _hash(payload: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def _audit(
    unit: Unit, approval: Approval, *, name: str, before: str, cause: str, actor: str = ""
) -> None:
    log(
        kind=f"{name}_approval",
        subject=f"approval:{approval.pk}",
        actor=actor or unit.actor,
        reason=cause,
        before={"state": before},
        after={"state": str(approval.state), "action": approval.action, "of": approval.subject},
        now=unit.now,
    )
    if approval.fulfillment_id in unit.fulfillments:
        unit.record(
            fulfillment_id=approval.fulfillment_id,
            entity="approval",
            entity_id=str(approval.pk),
            name=name,
            before=before,
            after=str(approval.state),
            cause=cause,
            details={"action": approval.action, "subject": approval.subject},
            actor=actor,
        )
