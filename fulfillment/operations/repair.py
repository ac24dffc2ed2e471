"""What every operation is: found, allowed, previewed and carried out by one and the same function.

A repair names its action, what it is about and what it has to be told; the rest is here: whoever
may not is refused before anything is looked up under a lock, what needs a second person becomes a
request for approval, and what is done leaves a record of who, when, why, before and after, by
what authority, on what evidence, and what it means for customer and revenue (reference §29).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import Permit, authorize, holds
from fulfillment.authority.context import Context
from fulfillment.authority.controls import approval_for, strictest, suffices
from fulfillment.engine.store.database import clean, storable
from fulfillment.engine.work.running import conclude, run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import (
    ApprovalNeeded,
    EvidenceMissing,
    Fault,
    ParametersInvalid,
    SubjectChanged,
    SubjectUnknown,
)
from fulfillment.models import Approval, Operation
from fulfillment.operations.records import reason_of


class Parameters(BaseModel):
    """What an operation is told beside what it is about; nothing that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


P = TypeVar("P", bound=Parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an operation is about."""

    subject: str
    """Such as `task:12`."""
    pk: int
    """Of its row; 0 for what is known by its name."""
    context: Context
    fulfillment_ids: tuple[int, ...] = ()
    """What has to be locked."""
    logged_as: str = ""
    """How the record of operations names it, where that is not the subject: the release of a hold
    is told of what was held."""
    parts: tuple[Context, ...] = ()
    """Where it is about many: the places of all of them, each of which has to be allowed."""
    implies: tuple[Action, ...] = ()
    """What is done to them by it, beside its own action."""

    @property
    def contexts(self) -> tuple[Context, ...]:
        """All places that authority is asked about."""
        return self.parts or (self.context,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """With what somebody asks for an operation."""

    actor: Actor
    reason: str
    evidence: str
    authority: str = ""
    """By what it is allowed."""
    approval: Approval | None = None
    """By which another person has approved it; a preview has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an operation has changed, or would."""

    told: str
    """One sentence, for whoever has asked for it."""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    customer_impact: str = "None."
    financial_impact: str = "None."
    result: Mapping[str, Any] = field(default_factory=dict)
    """What its caller goes on with, such as the number of a hold that was placed."""
    record: int = 0
    """The number of its `Operation`, once it was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameAbout:
    """Whether what an operation was for has really happened, as far as can be told now."""

    is_so: bool | None
    """None: still under way."""
    told: str


class Authority(Protocol):
    """As `authorize`: allows, or raises Denied."""

    def __call__(self, *, actor: Actor, action: Action, context: Context) -> Permit: ...


class Repair(ABC):
    """One thing that may be done by hand. Instances hold no state."""

    action: ClassVar[Action]
    kind: ClassVar[str]
    """As the record of operations names it."""
    about: ClassVar[str]
    """What its subjects are: `task`, `order`, `plan`, `case`, `target`, …"""
    also_about: ClassVar[tuple[str, ...]] = ()
    """Other kinds of subjects that it may have; it overrides `found` then."""
    parameters: ClassVar[type[Parameters]] = Parameters
    needs_evidence: ClassVar[bool] = False
    is_aimed: ClassVar[bool] = False
    """Where it is done is told by `aim` alone: until then nothing is known that could be asked
    about, such as of an event the order that it belongs to."""
    from_states: ClassVar[frozenset[str]] = frozenset()
    """The only states of its subject in which it can be possible; empty: that is not told by
    the state."""

    @abstractmethod
    def find(self, *, name: str) -> Found:
        """What `<about>:<name>` means. Raises SubjectUnknown. Changes and locks nothing."""

    def found(self, *, subject: str) -> Found:
        """What a subject such as `task:12` means. Raises SubjectUnknown."""
        about, _, name = subject.partition(":")
        return self.find(name=name if about == self.about else "")

    @abstractmethod
    def version(self, unit: Unit, found: Found) -> str:
        """As what it was looked at: another text after any change that matters to this. Under
        the locks."""

    @abstractmethod
    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        """Look again under the locks, and do it. Raises NotPossible; then nothing was done.

        May be rolled back (a preview), or run again: it has no effect outside of the unit.
        """

    def aim(self, found: Found, parameters: Any) -> Found:
        """The same with what it reaches by these parameters: more may have to be allowed, and
        locked. Raises SubjectUnknown, NotPossible. Changes and locks nothing."""
        return found

    def confirm(self, done: Done, parameters: Any) -> None:  # noqa: B027
        """What only the doing asks for, and not a preview: that whoever asks has seen this
        result. Raises NotPossible; then nothing was done."""

    def implies(self, parameters: Any) -> tuple[Action, ...]:
        """What it comes down to with these parameters, beside its own action: deciding that a task
        is waived is waiving it. Each has to be allowed, and approved, like the thing itself."""
        return ()

    def needs(self, found: Found, parameters: Any, actor: Actor) -> Action | None:
        """Who has to approve it with these parameters, beside whom the table names
        (`authority.controls`)."""
        return None

    def is_offered(self, found: Found) -> bool:
        """Whether it makes sense to show it, as far as that can be told without a lock."""
        return found.pk in self.offered_among(pks=[found.pk])

    def offered_among(self, *, pks: Collection[int]) -> Collection[int]:
        """Those of these subjects for which it makes sense to show it; one query. Of subjects
        without numbers only `is_offered` can tell."""
        return frozenset(pks)

    def find_among(self, *, pks: Collection[int]) -> Mapping[int, Found]:
        """`find` of several at once, by their numbers; what is gone is left out. What pages show
        many of is found by a fixed number of queries."""
        found = {}
        for pk in pks:
            with suppress(SubjectUnknown):
                found[pk] = self.find(name=str(pk))
        return found

    def came_about(self, *, pks: Collection[int]) -> Mapping[int, CameAbout]:
        """Of these subjects, once it is committed: whether what it was for has happened.

        What is done by the transaction itself has; what only begins there says so later.
        """
        so = CameAbout(is_so=True, told="It was so when it was committed.")
        return dict.fromkeys(pks, so)

    def beforehand(self, found: Found) -> None:  # noqa: B027  Most have nothing to note.
        """Before its unit begins: note what has to be known by then. It may be repeated, and
        changes nothing as long as the rest is not done."""

    def afterwards(self, done: Done) -> Done:
        """Once it is committed: wait for what has to be waited for."""
        return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants done."""

    action: Action
    subject: str
    reason: str
    evidence: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    expected_version: str = ""
    """Of the preview that it was decided by; empty: as it is when it is done."""


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
            lambda unit: last_change(unit, self.found),
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

    def _version(self, unit: Unit) -> str:
        """As it is now. Raises SubjectChanged when whoever asks has seen another."""
        version, expected = self.repair.version(unit, self.found), self.request.expected_version
        if expected and expected != version:
            raise SubjectChanged(
                f"{self.found.subject} has changed since you looked at it. "
                f"{last_change(unit, self.found)} Look again; nothing was done."
            )
        return version

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
            f"{last_change(unit, self.found)} Look again; nothing was done."
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


def last_change(unit: Unit, found: Found) -> str:
    """Who has changed it last, as its order's audit trail says, or the record of operations."""
    entity, _, name = found.subject.partition(":")
    if not found.fulfillment_ids:
        return _last_operation(found)
    # What it hangs on counts as well: another plan makes another task of it, although it stays.
    unit.raw.execute(
        "SELECT entity, name, to_state, actor, cause, occurred_at FROM fulfillment_transition "
        "WHERE fulfillment_id = %s AND (entity = %s AND entity_id = %s OR entity = ANY(%s)) "
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
    what = "It" if changed == entity else f"Its {changed}"
    return f"{what} is {state} since {at:%H:%M:%S} UTC, by {actor}: {cause}."


def _last_operation(found: Found) -> str:
    named = [found.subject, found.logged_as or found.subject]
    done = Operation.objects.filter(subject__in=named).order_by("-pk").first()
    if done is None:
        return ""
    what = done.kind.replace("_", " ")
    return f"{what.capitalize()} at {done.happened_at:%H:%M:%S} UTC, by {done.actor}: {done.reason}"


def values_of(*, repair: Repair, parameters: Mapping[str, Any]) -> Parameters:
    """What an operation is told, complete. Raises ParametersInvalid."""
    return checked(model=repair.parameters, values=parameters)


def checked(*, model: type[P], values: Mapping[str, Any]) -> P:
    """The same for any closed model."""
    if not storable(dict(values)):
        raise ParametersInvalid(
            [
                Fault(
                    code="parameters.unusable",
                    path="parameters",
                    message="There is something in it that is no valid text or number.",
                )
            ]
        )
    try:
        # Through JSON, so that a time may be given as text everywhere.
        return model.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        raise ParametersInvalid(
            [
                Fault(
                    code=f"parameters.{one['type']}",
                    path=".".join(map(str, one["loc"])),
                    message=f"{'.'.join(map(str, one['loc'])) or 'parameters'}: {one['msg']}.",
                )
                for one in error.errors()
            ]
        ) from None


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
