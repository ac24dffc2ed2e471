"""Four eyes: one person asks, another approves, and it is done in that moment or not at all.

An approval is bound to what it was asked for with (its payload), and to its subject as it was
then (its version). It expires, and it is used once. Who asks is asked for authority again when it
is carried out: a grant that was taken away meanwhile allows nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, person
from fulfillment.authority.authorizing import Permit, authorize
from fulfillment.authority.context import Context
from fulfillment.authority.controls import suffices
from fulfillment.engine.store.database import cursor
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    ApprovalNotOpen,
    ApprovalUnknown,
    Denied,
    FulfillmentError,
    NotPossible,
    ParametersInvalid,
    SubjectChanged,
    SubjectUnknown,
)
from fulfillment.models import Approval, ApprovalState
from fulfillment.operations.catalog import repair_of
from fulfillment.operations.preparing import (
    Authority,
    Prepared,
    Preview,
    last_change,
    prepare,
)
from fulfillment.operations.records import log, now_of, reason_of
from fulfillment.operations.repair import Done, Request

LASTS = timedelta(hours=24)
_AT_ONCE = 500
_ENGINE = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was asked for, looked at again."""

    preview: Preview | None
    """None: it is not possible any more."""
    changed: str
    """What is another than when it was asked for; empty: nothing that matters to it."""


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
    digest = _hash(payload, action=prepared.repair.action, subject=prepared.found.subject)

    def work(unit: Unit) -> Approval:
        # What is about no order has no lock of its own: two who ask for the same queue up here.
        unit.raw.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"approval:{digest}"]
        )
        known = Approval.objects.filter(
            action=prepared.repair.action,
            subject=prepared.found.subject,
            payload_hash=digest,
            state=ApprovalState.REQUESTED,
        ).first()
        if known is not None and known.version == preview.version and known.needs == needs:
            if known.requested_by_id != asker:
                raise NotPossible(
                    f"{known.requested_by.get_username()} has asked for the same already "
                    f"(approval {known.pk}). You may approve it, if your role allows."
                )
            if known.expires_at > unit.now:
                return known
        if known is not None:
            move(unit, known, Approval.outdate, cause="asked for anew, as it is now")
        approval = Approval.objects.create(
            action=prepared.repair.action,
            subject=prepared.found.subject,
            fulfillment_id=next(iter(prepared.found.fulfillment_ids), None),
            needs=needs,
            payload=payload,
            payload_hash=digest,
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
    _check_open(approval, now=_now())
    # First, so that a stranger learns nothing, and nothing becomes of what they try.
    places = _authorize_decision(approval, actor)
    try:
        prepared = _prepared_again(approval)
    except (SubjectUnknown, ParametersInvalid) as error:
        _outdate(approval, cause=str(error))
        raise _stale(approval, str(error)) from None
    except Denied as error:
        cause = f"Whoever has asked for it may not do it any more. {error}"
        _outdate(approval, cause=cause)
        raise _stale(approval, cause) from None
    if not suffices(given=Action(approval.needs), needed=prepared.needs):
        cause = f"It needs {prepared.needs} by now."
        _outdate(approval, cause=cause)
        raise _stale(approval, cause)
    for context in prepared.found.contexts:
        if context not in places:
            authorize(actor=actor, action=Action(approval.needs), context=context)

    def work(unit: Unit) -> tuple[Approval, Done]:
        known = prepared.known()
        if known is not None:  # The reply to its commit was lost.
            return _known(approval_id), known
        row = _open(unit, approval_id)
        done = prepared.carry_out(unit, approval=row)
        row.decided_by_id = actor.user_id
        move(unit, row, Approval.execute, cause=reason, actor=actor.name)
        return row, done

    try:
        row, done = run_unit(
            work, fulfillment_ids=prepared.found.fulfillment_ids, actor=prepared.why.actor.name
        )
    except FulfillmentError:
        _outdate_if_changed(approval, prepared)
        raise
    return row, prepared.repair.afterwards(done)


def refuse(*, approval_id: int, actor: Actor, reason: str) -> Approval:
    """Another person says no. Raises ApprovalUnknown, ReasonMissing, Denied, ApprovalNotOpen."""
    reason = reason_of(reason)
    approval = _known(approval_id)
    _authorize_decision(approval, actor)
    return _decide(approval, Approval.refuse, actor, reason)


def withdraw(*, approval_id: int, actor: Actor, reason: str) -> Approval:
    """Whoever asked for it takes it back. Raises ApprovalUnknown, ReasonMissing, Denied and
    ApprovalNotOpen."""
    reason = reason_of(reason)
    approval = _known(approval_id)
    if actor.user_id is None or approval.requested_by_id != actor.user_id:
        raise Denied("Only whoever has asked for it takes it back; others refuse it.")
    return _decide(approval, Approval.withdraw, actor, reason)


def look_after_approvals() -> int:
    """End what nobody has decided in time, and what is about something that has changed since;
    beat's part. Returns how many."""
    ended = 0
    now = _now()
    for approval in Approval.objects.filter(state=ApprovalState.REQUESTED).order_by("expires_at")[
        :_AT_ONCE
    ]:
        if approval.expires_at <= now:
            ended += _end(approval, Approval.expire, cause="nobody has decided in time")
            continue
        try:
            prepared = _prepared_again(approval, authority=_unasked)
        except FulfillmentError as error:
            ended += _outdate(approval, cause=str(error))
        else:
            ended += _outdate_if_changed(approval, prepared)
    return ended


def looked_at_again(*, approval: Approval) -> Looked:
    """What an approval that is still open would do now. Keeps nothing, and asks for no authority:
    whoever may see it may see that."""
    try:
        prepared = _prepared_again(approval, authority=_unasked)
        return Looked(preview=prepared.preview(), changed="")
    except SubjectChanged as error:
        changed = str(error)
    except FulfillmentError as error:
        return Looked(preview=None, changed=str(error))
    try:
        anew = replace(prepared, request=replace(prepared.request, expected_version=""))
        return Looked(preview=anew.preview(), changed=changed)
    except FulfillmentError:
        return Looked(preview=None, changed=changed)


def may_decide(*, approval: Approval, actor: Actor, held: Collection[Action]) -> bool:
    """Whether it makes sense to show somebody who holds these actions the way to approve it."""
    return (
        approval.state == ApprovalState.REQUESTED
        and actor.user_id is not None
        and actor.user_id != approval.requested_by_id
        and Action(approval.needs) in held
    )


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


def _prepared_again(approval: Approval, *, authority: Authority = authorize) -> Prepared:
    """What was asked for, by whoever asked for it, with the authority that they have now."""
    asker = approval.requested_by
    payload = approval.payload
    if approval.payload_hash != _hash(payload, action=approval.action, subject=approval.subject):
        raise ApprovalNotOpen(
            f"Approval {approval.pk} is not as it was asked for. Refuse it, and find out who has "
            "written to the database."
        )
    return prepare(
        repair=repair_of(approval.action),
        actor=person(name=asker.get_username(), user_id=asker.pk),
        authority=authority,
        request=Request(
            action=Action(approval.action),
            subject=approval.subject,
            reason=payload["reason"],
            evidence=payload["evidence"],
            parameters=payload["parameters"],
            expected_version=approval.version,
        ),
    )


def _unasked(*, actor: Actor, action: Action, context: Context) -> Permit:
    """For looking at what was asked for: nothing is done by it."""
    return Permit(decision_id=0, authority="")


def _authorize_decision(approval: Approval, actor: Actor) -> Sequence[Context]:
    """Whoever decides holds what it needs, where it is to be done, and has not asked for it.
    Returns where that is.

    Where that is can't be told any more of what is gone: then no scope covers it. Raises Denied.
    """
    try:
        contexts = repair_of(approval.action).found(subject=approval.subject).contexts
    except SubjectUnknown:
        contexts = (Context(subject=approval.subject),)
    own = actor.user_id == approval.requested_by_id
    for context in contexts:
        authorize(
            actor=actor,
            action=Action(approval.needs),
            context=context,
            unless="whoever asks for it can't decide it: that is for another person." * own,
        )
    return contexts


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
    row = Approval.objects.select_for_update(of=("self",)).get(pk=approval_id)
    _check_open(row, now=unit.now)
    return row


def _check_open(row: Approval, *, now: datetime) -> None:
    if row.state != ApprovalState.REQUESTED:
        by = f", by {row.decided_by.get_username()}" if row.decided_by else ""
        raise ApprovalNotOpen(
            f"Approval {row.pk} is {row.state}{by}: {row.decision_reason} It is used once; "
            "ask for it anew."
        )
    if row.expires_at <= now:
        raise ApprovalNotOpen(
            f"Approval {row.pk} has expired at {row.expires_at:%Y-%m-%d %H:%M} UTC; ask for it "
            "anew."
        )


def _stale(approval: Approval, cause: str) -> ApprovalNotOpen:
    return ApprovalNotOpen(f"Approval {approval.pk} holds no longer. {cause} Ask for it anew.")


def _outdate(approval: Approval, *, cause: str) -> bool:
    return _end(approval, Approval.outdate, cause=cause)


def _end(approval: Approval, transition: Callable[[Approval], None], *, cause: str) -> bool:
    """Without anybody deciding; false when somebody has been quicker."""

    def work(unit: Unit) -> bool:
        row = Approval.objects.select_for_update(of=("self",)).get(pk=approval.pk)
        if row.state != ApprovalState.REQUESTED:
            return False
        move(unit, row, transition, cause=cause)
        return True

    return run_unit(work, fulfillment_ids=_locked(approval), actor=_ENGINE)


def _outdate_if_changed(approval: Approval, prepared: Prepared) -> bool:
    """What it is about is another by now: nobody can approve it any more."""

    def work(unit: Unit) -> bool:
        row = Approval.objects.select_for_update(of=("self",)).get(pk=approval.pk)
        if row.state != ApprovalState.REQUESTED:
            return False
        if row.version == prepared.repair.version(unit, prepared.found):
            return False
        changed = last_change(unit, prepared.found, is_audited=prepared.repair.is_audited)
        cause = f"What it is about has changed since. {changed}".strip()
        move(unit, row, Approval.outdate, cause=cause)
        return True

    return run_unit(work, fulfillment_ids=prepared.found.fulfillment_ids, actor=_ENGINE)


def _locked(approval: Approval) -> list[int]:
    return [] if approval.fulfillment_id is None else [approval.fulfillment_id]


def _payload(prepared: Prepared) -> dict[str, Any]:
    return {
        "parameters": prepared.values.model_dump(mode="json"),
        "reason": prepared.why.reason,
        "evidence": prepared.why.evidence,
    }


def _hash(payload: Mapping[str, Any], *, action: str, subject: str) -> str:
    told = json.dumps([action, subject, payload], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _now() -> datetime:
    with cursor() as raw:
        return now_of(raw)


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
