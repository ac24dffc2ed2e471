"""An operation that somebody has asked for: looked up, allowed, previewed, carried out, recorded.

Whoever may not is refused before anything is looked up under a lock. What is shown and what is
done are the same function in the same kind of unit: one is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import Permit, Reach, authorize, holds
from fulfillment.authority.context import Context
from fulfillment.authority.controls import approval_for, strictest, suffices
from fulfillment.engine.store.database import clean
from fulfillment.engine.work.running import conclude, run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ApprovalNeeded, EvidenceMissing, SubjectChanged
from fulfillment.models import Approval, Operation
from fulfillment.operations.records import reason_of
from fulfillment.operations.repair import (
    Done,
    Found,
    Parameters,
    Repair,
    Request,
    Why,
    values_of,
)

_LINE_UP = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


class Authority(Protocol):
    """As `authorize`: allows, or raises Denied."""

    def __call__(self, *, actor: Actor, action: Action, context: Context) -> Permit: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an operation would do now."""

    version: str
    done: Done
    transitions: Sequence[Mapping[str, str]]
    commands: Sequence[Mapping[str, Any]]
    needs: Action | None
    """Who else has to approve it."""


class _Enough(Exception):
    """A preview is not committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An operation that is known, complete and allowed, and not done yet."""

    repair: Repair
    request: Request
    found: Found
    values: Parameters
    why: Why
    permit: Permit
    needs: Action | None
    _written: list[Done] = field(default_factory=list, repr=False, compare=False)
    """What was done, with the number of its record, as the unit wrote it that ran last."""

    def preview(self) -> Preview:
        """By the function that does it, rolled back. Raises NotPossible, SubjectChanged."""
        seen: list[Preview] = []

        def work(unit: Unit) -> None:
            self._line_up(unit)
            version = self._version(unit)
            done = self.repair.carry_out(unit, self.found, self.values, self.why)
            conclude(unit)
            seen[:] = [
                Preview(
                    version=version,
                    done=done,
                    transitions=_transitions(unit),
                    commands=_commands(unit),
                    needs=self.needs,
                )
            ]
            raise _Enough

        with suppress(_Enough):
            run_unit(work, fulfillment_ids=self.found.fulfillment_ids, actor=self.why.actor.name)
        return seen[0]

    def carry_out(self, unit: Unit, *, approval: Approval | None = None) -> Done:
        """Do it inside a unit that has locked `found.fulfillment_ids`, and record it.

        Raises NotPossible, SubjectChanged. Once it was done it is not done again: a unit runs again
        when the reply to its commit was lost.
        """
        if (known := self.known()) is not None:
            return known
        self._line_up(unit)
        if self.request.expected_version:
            self._version(unit)
        self._check_reach(unit)
        why = replace(self.why, approval=approval)
        done = self.repair.carry_out(unit, self.found, self.values, why)
        self.repair.confirm(done, self.values)
        operation = Operation.objects.create(
            kind=self.repair.kind,
            subject=(self.found.logged_as or self.found.subject)[:300],
            actor=self.why.actor.name,
            reason=self.why.reason,
            before=dict(done.before),
            after=dict(done.after),
            authority=self.permit.authority,
            evidence=self.why.evidence,
            customer_impact=done.customer_impact,
            financial_impact=done.financial_impact,
            order_reference=self.found.context.order_reference,
            approval=approval,
            happened_at=unit.now,
        )
        done = replace(done, record=operation.pk)
        self._written[:] = [done]
        return done

    def known(self) -> Done | None:
        """What it has done, when a unit before this one has committed that."""
        for done in self._written:
            if Operation.objects.filter(pk=done.record).exists():
                return done
        return None

    def alone(self) -> None:
        """Raises ApprovalNeeded for what takes a second person."""
        if self.needs is not None:
            raise ApprovalNeeded(
                f"{self.request.action} on {self.found.subject} needs {self.needs} by another "
                "person: ask for it, and it is done when they approve."
            )

    def changed(self) -> str:
        """Who has changed the subject last; empty when nobody is known to have."""
        return run_unit(
            self._last_change,
            fulfillment_ids=(),
            actor=self.why.actor.name,
        )

    def commit(self) -> Done:
        """Do it now, in a unit of its own, and wait for nothing; only what needs nobody else.

        Raises NotPossible, SubjectChanged, ApprovalNeeded.
        """
        self.alone()
        self.repair.beforehand(self.found)
        return run_unit(
            lambda unit: self.carry_out(unit),
            fulfillment_ids=self.found.fulfillment_ids,
            actor=self.why.actor.name,
        )

    def _line_up(self, unit: Unit) -> None:
        """What has no order's lock: until this is committed nobody else does anything to it, or
        goes by what it is now. After the orders, and before every row."""
        if line := self.repair.line(self.found):
            unit.raw.execute(_LINE_UP, [f"operation:{line}"])

    def _version(self, unit: Unit) -> str:
        """As it is now. Raises SubjectChanged when whoever asks has seen another."""
        version, expected = self.repair.version(unit, self.found), self.request.expected_version
        if expected and expected != version:
            raise SubjectChanged(
                f"{self.found.subject} has changed since you looked at it. "
                f"{self._last_change(unit)} Look again; nothing was done."
            )
        return version

    def _last_change(self, unit: Unit) -> str:
        return last_change(unit, self.found, is_audited=self.repair.is_audited)

    def _check_reach(self, unit: Unit) -> None:
        """That it reaches no more under the locks than was asked about before them. Raises
        SubjectChanged."""
        aimed = self.repair.aim(self.found, self.values)
        needed = _needed(self.repair, aimed, self.values, self.why.actor)
        if (
            all(one in self.found.contexts for one in aimed.contexts)
            and set(aimed.implies) <= set(self.found.implies)
            and suffices(given=self.needs, needed=needed)
        ):
            return
        raise SubjectChanged(
            f"{self.found.subject} has changed: more is done by it than you have asked for. "
            f"{self._last_change(unit)} Look again; nothing was done."
        )

    def perform(self) -> Done:
        """The same, and wait for what has to be waited for."""
        return self.repair.afterwards(self.commit())


def prepare(
    *, repair: Repair, actor: Actor, request: Request, authority: Authority = authorize
) -> Prepared:
    """Find what it is about, whether all is said, and whether it is allowed; locks nothing.

    Raises ReasonMissing, EvidenceMissing, ParametersInvalid, SubjectUnknown, Denied, and
    NotPossible where that can be told without a lock. Call it
    outside of any transaction: the answer about authority stays, whatever becomes of the rest.
    """
    found = repair.found(subject=request.subject)
    permits: list[Permit] = []
    if not repair.is_aimed or not holds(actor=actor, action=repair.action):
        permits = [
            authority(actor=actor, action=repair.action, context=context)
            for context in found.contexts
        ]
    values = values_of(repair=repair, parameters=request.parameters)
    aimed = repair.aim(found, values)
    if not permits or aimed.contexts != found.contexts:
        permits = [
            authority(actor=actor, action=repair.action, context=context)
            for context in aimed.contexts
        ]
    found = aimed
    for implied in (*repair.implies(values), *found.implies):
        for context in found.contexts:
            authority(actor=actor, action=implied, context=context)
    for further in repair.leads_to:
        for context in found.contexts:
            if not Reach(actor=actor).could(action=further, context=context):
                authority(actor=actor, action=further, context=context)
    why = Why(
        actor=actor,
        reason=reason_of(request.reason),
        evidence=clean(request.evidence.strip(), 4000),
        authority=permits[0].authority,
    )
    if repair.needs_evidence and not why.evidence:
        raise EvidenceMissing(
            "Say what you have found out and where it can be seen: a ticket, a screen of the "
            "target system, a name."
        )
    return Prepared(
        repair=repair,
        request=request,
        found=found,
        values=values,
        why=why,
        permit=permits[0],
        needs=_needed(repair, found, values, actor),
    )


def _needed(repair: Repair, found: Found, values: Parameters, actor: Actor) -> Action | None:
    """Who has to approve all that is done by it."""
    actions = (repair.action, *repair.implies(values), *found.implies)
    return strictest(
        (
            repair.needs(found, values, actor),
            *(
                approval_for(action=one, context=context)
                for one in actions
                for context in found.contexts
            ),
        )
    )


def last_change(unit: Unit, found: Found, *, is_audited: bool = True) -> str:
    """Who has changed it last, as its order's audit trail says, or the record of operations."""
    entity, _, name = found.subject.partition(":")
    if not found.fulfillment_ids or not is_audited:
        return _last_operation(found)
    # What it hangs on counts as well: another plan makes another task of it, although it stays.
    unit.raw.execute(
        "SELECT entity, name, to_state, actor, cause, occurred_at FROM fulfillment_transition "
        "WHERE fulfillment_id = %s AND (entity = %s AND entity_id = %s OR entity = ANY(%s) "
        "OR entity = 'hold' AND name = 'place_hold' AND details->>'subject' LIKE 'change:%%') "
        # Of what changed in one moment its own part says most.
        "ORDER BY occurred_at DESC, entity = %s DESC, name = 'supersede' DESC, sequence DESC "
        "LIMIT 1",
        [
            found.fulfillment_ids[0],
            entity,
            str(found.pk) if entity != "order" else name,
            ["plan", "order", "cancellation", "amendment"],
            entity,
        ],
    )
    row = unit.raw.fetchone()
    if row is None:
        return _last_operation(found)
    changed, transition, state, actor, cause, at = row
    if transition == "supersede":
        return f"Its plan was replaced at {at:%H:%M:%S} UTC, by {actor}: {cause}."
    if changed == "hold":
        return f"It is given up, or changed, since {at:%H:%M:%S} UTC, by {actor}: {cause}."
    what = "It" if changed == entity else f"Its {changed}"
    return f"{what} is {state} since {at:%H:%M:%S} UTC, by {actor}: {cause}."


def _last_operation(found: Found) -> str:
    named = [found.subject, found.logged_as or found.subject]
    done = Operation.objects.filter(subject__in=named).order_by("-pk").first()
    if done is None:
        return ""
    what = done.kind.replace("_", " ")
    return f"{what.capitalize()} at {done.happened_at:%H:%M:%S} UTC, by {done.actor}: {done.reason}"


def _transitions(unit: Unit) -> list[Mapping[str, str]]:
    names = {str(task.id): task.key for task in unit.tasks.values()}
    return [
        {
            "entity": entity,
            "id": entity_id,
            "name": names.get(str(entity_id), "") if entity == "task" else "",
            "transition": name,
            "from": before,
            "to": after,
        }
        for _, _, entity, entity_id, name, before, after, *_ in unit.transitions
        if before != after
    ]


def _commands(unit: Unit) -> list[Mapping[str, Any]]:
    return [
        {
            "task": unit.tasks[one.task_id].key if one.task_id in unit.tasks else "",
            "target": one.target_id,
            "action": one.action,
            "payload": one.payload,
        }
        for one in unit.new_commands
    ]
