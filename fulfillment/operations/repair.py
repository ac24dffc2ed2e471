"""What every operation is: found, allowed, previewed and carried out by one and the same function.

A repair names its action, what it is about and what it has to be told; the rest is in `preparing`:
whoever may not is refused before anything is looked up under a lock, what needs a second person
becomes a request for approval, and what is done leaves a record of who, when, why, before and
after, by what authority, on what evidence, and what it means for customer and revenue
(reference §29).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import storable
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import Fault, ParametersInvalid, SubjectUnknown
from fulfillment.models import Approval
from fulfillment.operations.showing import Table


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
    state: str = ""
    """What its row said when it was found; what is shown is told by that, and what is done looks
    again under the locks. Empty where nothing depends on it."""
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
    tables: tuple[Table, ...] = ()
    """What it comes to, where that is more than one sentence: a quote, a difference, what becomes
    of each task."""
    record: int = 0
    """The number of its `Operation`, once it was carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What whoever asks has to say that they have seen in the preview."""

    words: str
    parameters: Mapping[str, Any]
    """How saying so is told to the operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameAbout:
    """Whether what an operation was for has really happened, as far as can be told now."""

    is_so: bool | None
    """None: still under way."""
    told: str


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
    leads_to: ClassVar[tuple[Action, ...]] = ()
    """What comes of what it drafts, done to each part later: who could do that to none of them is
    refused at once. It is approved, if it has to be, when it is started."""
    is_shown_first: ClassVar[bool] = False
    """Whoever thinks about it has to see what it comes to before anything is entered: a quote."""
    agreed: ClassVar[frozenset[str]] = frozenset()
    """Parameters that say that somebody agrees to what the preview has said; see `agreement`."""
    people: ClassVar[Mapping[str, Action]] = MappingProxyType({})
    """Parameters that are user names: forms offer those who may do this."""
    is_audited: ClassVar[bool] = True
    """What it depends on changes with the audit trail of its order; else the record of operations
    alone says who was there before."""
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

    def line(self, found: Found) -> str:
        """Where whoever does it lines up behind whoever does something to the same; empty: the
        lock of its order keeps them apart."""
        return "" if found.fulfillment_ids else found.subject

    def aim(self, found: Found, parameters: Any) -> Found:
        """The same with what it reaches by these parameters: more may have to be allowed, and
        locked. Raises SubjectUnknown, NotPossible. Changes and locks nothing."""
        return found

    def confirm(self, done: Done, parameters: Any) -> None:  # noqa: B027
        """What only the doing asks for, and not a preview: that whoever asks has seen this
        result. Raises NotPossible; then nothing was done."""

    def agreement(self, done: Done) -> Agreement | None:
        """What this result asks somebody to agree to, and a preview does not; None: nothing."""
        return None

    def suggested(self, found: Found) -> Mapping[str, Any]:
        """Parameters with which its form begins. Changes and locks nothing."""
        return {}

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
        return not self.from_states or found.state in self.from_states

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
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
