"""Taking manual tasks, giving them back, giving them to others, and going on with an answer."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from django.contrib.auth.models import User
from pydantic import Field, JsonValue, StringConstraints, model_validator

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, person
from fulfillment.authority.authorizing import answer
from fulfillment.engine.plans import awaiting, deciding
from fulfillment.engine.store.database import clean
from fulfillment.engine.work import asking
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import AlreadySo, NotPossible
from fulfillment.models import MANUAL_OPEN, MANUAL_TIMED, ManualState, ManualTask
from fulfillment.operations.catalog import perform
from fulfillment.operations.deciding import manual_found, manual_version, manuals_found
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why

_Name = Annotated[str, StringConstraints(max_length=150, strip_whitespace=True)]
_Queue = Annotated[str, StringConstraints(max_length=63, pattern=r"^[A-Za-z0-9_-]*$")]


class _OfManualTasks(Repair):
    about = "manual"

    def find(self, *, name: str) -> Found:
        return manual_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return manual_version(found)

    def find_among(self, *, pks: tuple[int, ...]) -> Mapping[int, Found]:
        return manuals_found(pks=pks)


class ClaimManualTask(_OfManualTasks):
    """Take it: until it is given back nobody else decides it."""

    action = Action.MANUAL_CLAIM
    kind = "claim"
    from_states = frozenset({str(ManualState.OPEN)})

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        row = deciding.look(unit, manual_id=found.pk, actor=why.actor.name).manual
        if row.claimed_by == why.actor.name:
            raise AlreadySo(f"{row.title}: you have it already.")
        deciding.take(unit, row=row, actor=why.actor.name, cause=why.reason)
        return _done(row, f"{row.title}: {row.claimed_by} has it now.", before=ManualState.OPEN)


class ReleaseManualTask(_OfManualTasks):
    """Give it back: anybody who may takes it."""

    action = Action.MANUAL_RELEASE
    kind = "release"
    from_states = frozenset({str(ManualState.CLAIMED)})

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        row = deciding.look(unit, manual_id=found.pk, actor=why.actor.name).manual
        if row.state != ManualState.CLAIMED:
            raise NotPossible(f"{row.title} is {row.state}: nobody has it who could give it back.")
        row.claimed_by, row.claimed_at = "", None
        asking.move(unit, manual=row, transition=ManualTask.release, cause=why.reason)
        return _done(row, f"{row.title} is anybody's again.", before=ManualState.CLAIMED)


class ReassignParameters(Parameters):
    to: _Name = Field(
        "",
        title="Who is to have it",
        description="User name of who has it from now on; empty: nobody yet.",
    )
    queue: _Queue = Field("", description="The queue in which it is from now on; empty: the same.")

    @model_validator(mode="after")
    def _says_something(self) -> ReassignParameters:
        if not self.to and not self.queue:
            raise ValueError("say who has it from now on, or in which queue it is")
        return self


class ReassignManualTask(_OfManualTasks):
    """Give it to somebody else, or to another queue, also what another has claimed."""

    action = Action.MANUAL_REASSIGN
    kind = "reassign"
    parameters = ReassignParameters
    people = MappingProxyType({"to": Action.MANUAL_DECIDE})
    from_states = frozenset(map(str, MANUAL_OPEN))

    def carry_out(self, unit: Unit, found: Found, parameters: ReassignParameters, why: Why) -> Done:
        row = ManualTask.objects.get(pk=found.pk)
        before, had, queue = ManualState(row.state), row.claimed_by, row.queue
        deciding.look(unit, manual_id=found.pk, actor=row.claimed_by or why.actor.name)
        if parameters.to and parameters.to == had and parameters.queue in ("", queue):
            raise AlreadySo(f"{row.title}: {had} has it already.")
        if not parameters.to and not had and parameters.queue == queue:
            raise AlreadySo(f"{row.title} is in {queue} already, and nobody has it.")
        if parameters.to:
            _check_may_decide(unit, found, parameters.to)
        row.queue = parameters.queue or row.queue
        row.claimed_by = clean(parameters.to, 150)
        row.claimed_at = unit.now if parameters.to else None
        details = {"from": had, "to": row.claimed_by, "queue": row.queue}
        if before not in MANUAL_TIMED:
            asking.note(unit, manual=row, name=self.kind, cause=why.reason, details=details)
        else:
            if parameters.to:
                asking.move(
                    unit,
                    manual=row,
                    transition=ManualTask.reassign,
                    cause=why.reason,
                    details=details,
                )
            elif before is ManualState.CLAIMED:
                asking.move(
                    unit,
                    manual=row,
                    transition=ManualTask.release,
                    cause=why.reason,
                    details=details,
                )
            else:
                asking.note(unit, manual=row, name=self.kind, cause=why.reason, details=details)
        told = f"{row.title}: {row.claimed_by or f'nobody in {row.queue}'} has it now."
        return _done(row, told, before=before, had=had, queue=queue)


class ResumeParameters(Parameters):
    answer: dict[str, JsonValue] = Field(
        {}, description="What the customer, or commerce, has said; it is kept with the task."
    )


class ResumeManualTask(_OfManualTasks):
    """The customer, or commerce, has answered: its time goes on, and a hold for it is released."""

    action = Action.MANUAL_RESUME
    kind = "resume"
    parameters = ResumeParameters
    from_states = frozenset({str(ManualState.AWAITING_CUSTOMER)})

    def carry_out(self, unit: Unit, found: Found, parameters: ResumeParameters, why: Why) -> Done:
        row = ManualTask.objects.get(pk=found.pk)
        asked = deciding.look(unit, manual_id=found.pk, actor=row.claimed_by or why.actor.name)
        row = asked.manual
        if row.state != ManualState.AWAITING_CUSTOMER:
            raise NotPossible(f"{row.title} is {row.state}: nobody's answer is awaited.")
        awaited = row.awaits
        awaiting.resume(
            unit,
            manual=row,
            task=asked.task,
            cause=why.reason,
            answer=dict(parameters.answer),
        )
        return _done(
            row,
            f"{row.title}: the {awaited} is not awaited any more.",
            before=ManualState.AWAITING_CUSTOMER,
        )


def claim(*, manual_id: int, actor: Actor, reason: str) -> ManualTask:
    """Raises as `catalog.perform` does, ManualTaskTaken and DecisionMade."""
    return _perform(Action.MANUAL_CLAIM, manual_id, actor, reason)


def release(*, manual_id: int, actor: Actor, reason: str) -> ManualTask:
    """Raises as `claim` does."""
    return _perform(Action.MANUAL_RELEASE, manual_id, actor, reason)


def reassign(
    *, manual_id: int, actor: Actor, reason: str, to: str = "", queue: str = ""
) -> ManualTask:
    """Raises as `claim` does, and NotPossible for somebody who may not decide it."""
    return _perform(Action.MANUAL_REASSIGN, manual_id, actor, reason, {"to": to, "queue": queue})


def resume(
    *, manual_id: int, actor: Actor, reason: str, answer: Mapping[str, Any] | None = None
) -> ManualTask:
    """Raises as `claim` does."""
    return _perform(Action.MANUAL_RESUME, manual_id, actor, reason, {"answer": dict(answer or {})})


def _perform(
    action: Action,
    manual_id: int,
    actor: Actor,
    reason: str,
    parameters: Mapping[str, Any] | None = None,
) -> ManualTask:
    perform(
        actor=actor,
        request=Request(
            action=action,
            subject=f"manual:{manual_id}",
            reason=reason,
            parameters=parameters or {},
        ),
    )
    return ManualTask.objects.get(pk=manual_id)


def _check_may_decide(unit: Unit, found: Found, name: str) -> None:
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise NotPossible(f"There is no active user {name[:100]!r}.")
    may, why = answer(
        actor=person(name=user.get_username(), user_id=user.pk),
        action=Action.MANUAL_DECIDE,
        context=found.context,
        now=unit.now,
    )
    if not may:
        raise NotPossible(f"{name} could not decide it: {why}")


def _done(
    row: ManualTask,
    told: str,
    *,
    before: ManualState,
    had: str = "",
    queue: str = "",
) -> Done:
    return Done(
        told=told,
        before={"state": before.value, "claimed_by": had, "queue": queue or row.queue},
        after={"state": str(row.state), "claimed_by": row.claimed_by, "queue": row.queue},
        result={"manual": row.pk, "state": str(row.state), "claimed_by": row.claimed_by},
    )
