"""Events that no task was found for: matched by hand, or looked at again (reference §23.2, §29)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import MONEY
from fulfillment.authority.controls import approval_for
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.callbacks import AboutCommand
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible, SubjectUnknown
from fulfillment.models import PARKED, Disposition, InboundEvent
from fulfillment.operations.looking import found_once
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.operations.subjects import number_of, target_context, task_found


class Match(Parameters):
    task: Annotated[str, Field(max_length=300)] = Field(
        "", description="What it is about: a task's number, or its order and key as O-17/its-key."
    )
    idempotency_key: Annotated[str, Field(max_length=200)] = Field(
        "", description="Instead: the key of the very command that it is about."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Match:
        if bool(self.task) == bool(self.idempotency_key):
            raise ValueError("name the task, or the key of its command")
        return self


class _OfEvent(Repair):
    """What both have in common: the event is taken in as if it had come with a command's key."""

    about = "event"
    is_aimed = True

    def find(self, *, name: str) -> Found:
        return event_found(name=name)

    def line(self, found: Found) -> str:
        """Whatever order it is about: somebody else may say that it is about another."""
        return found.subject

    def version(self, unit: Unit, found: Found) -> str:
        event = InboundEvent.objects.get(pk=found.pk)
        return f"{event.disposition} {event.task_id or ''}"

    def is_offered(self, found: Found) -> bool:
        return found.state in PARKED

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        event = InboundEvent.objects.select_for_update().get(pk=found.pk)
        _check_is_parked(event)
        before = str(event.disposition)
        command = self.command(event, parameters)
        disposition = callbacks.match(unit, event_id=event.pk, command=command)
        task = unit.tasks[command.task_id]
        unit.record(
            fulfillment_id=command.fulfillment_id,
            entity="event",
            entity_id=str(event.pk),
            name=self.kind,
            before=before,
            after=str(disposition),
            cause=why.reason,
            details={"source": event.source, "event_id": event.event_id, "task": task.key},
        )
        money = not MONEY.isdisjoint(found.context.domains)
        return Done(
            told=_told(event, disposition, f"{task.key} of {found.context.order_reference}"),
            before={"disposition": before},
            after={"disposition": str(disposition), "task": task.key, "state": str(task.state)},
            customer_impact="The order goes on by what the event says."
            if disposition is Disposition.APPLIED
            else "None.",
            financial_impact=f"{event.source} charges or bills: what it reports counts."
            if money
            else "None.",
            result={"task": task.pk, "disposition": str(disposition)},
        )

    @abstractmethod
    def command(self, event: InboundEvent, parameters: Any) -> AboutCommand:
        """What it is about. Raises NotPossible."""


class MatchEvent(_OfEvent):
    """A person says what a parked event is about; only a task of the system that has sent it."""

    action = Action.EVENT_MATCH
    kind = "match_event"
    parameters = Match
    needs_evidence = True

    def needs(self, found: Found, parameters: Match, actor: Actor) -> Action | None:
        """It is somebody's word for what became of a charge, as `task.reconcile` is."""
        return (
            approval_for(action=Action.TASK_RECONCILE, context=found.context)
            if (not MONEY.isdisjoint(found.context.domains))
            else None
        )

    def aim(self, found: Found, parameters: Match) -> Found:
        event = InboundEvent.objects.get(pk=found.pk)
        if parameters.task:
            return _about(found, event, task=parameters.task)
        return _about(found, event, task=str(self.command(event, parameters).task_id))

    def command(self, event: InboundEvent, parameters: Match) -> AboutCommand:
        if parameters.idempotency_key:
            found = callbacks.command_by_key(key=parameters.idempotency_key, target=event.source)
            if found is None:
                raise NotPossible(f"No command of {event.source} has this key.")
            return found
        task = task_found(name=parameters.task)
        found = callbacks.newest_command_of(task_id=task.pk, target=event.source)
        if found is None:
            raise NotPossible(
                f"{event.source} has not been asked for anything by {parameters.task}: an event "
                "settles no task of another system."
            )
        return found


class ReplayEvent(_OfEvent):
    """Look again whether the parked event finds its task, such as after something was mended."""

    action = Action.EVENT_REPLAY
    kind = "replay_event"

    def aim(self, found: Found, parameters: Parameters) -> Found:
        event = InboundEvent.objects.get(pk=found.pk)
        if event.task_id is not None:  # The same request again may be answered as before.
            return _about(found, event, task=str(event.task_id))
        _check_is_parked(event)
        return _about(found, event, task=str(self.command(event, parameters).task_id))

    def command(self, event: InboundEvent, parameters: Any) -> AboutCommand:
        found = callbacks.command_by_key(key=event.idempotency_key, target=event.source)
        if found is None:
            named = ", ".join(f"{one['order']}/{one['task']}" for one in event.suggestions)
            raise NotPossible(
                f"Still no command of {event.source} has its key. Match it yourself "
                f"(event.match){f'; it may be about {named}' if named else ''}."
            )
        return found


@found_once
def event_found(*, name: str) -> Found:
    """An event in the inbox by its number. Raises SubjectUnknown."""
    event = InboundEvent.objects.filter(pk=number_of(name, about="event")).first()
    if event is None:
        raise SubjectUnknown(f"There is no event {name}; the unmatched ones are in the inbox.")
    subject = f"event:{event.pk}"
    return Found(
        subject=subject,
        pk=event.pk,
        context=target_context(subject=subject, target=event.source),
        state=event.disposition,
    )


def _about(found: Found, event: InboundEvent, *, task: str) -> Found:
    """The event, where its task is: there it has to be allowed."""
    its = task_found(name=task)
    context = replace(
        its.context,
        subject=found.subject,
        targets=its.context.targets | found.context.targets,
        domains=its.context.domains | found.context.domains,
    )
    return replace(found, context=context, fulfillment_ids=its.fulfillment_ids)


def _check_is_parked(event: InboundEvent) -> None:
    """Raises NotPossible."""
    if event.disposition in PARKED:
        return
    about = "" if event.task is None else f" {event.task.key} has had it."
    raise NotPossible(f"The event is {event.disposition} already.{about}")


def _told(event: InboundEvent, disposition: Disposition, task: str) -> str:
    about = f"Event {event.event_id} of {event.source} is about {task}"
    match disposition:
        case Disposition.APPLIED:
            return f"{about}, and has moved it."
        case Disposition.CONFLICTING:
            return f"{about}, and contradicts how that was settled: a case says so."
        case _:
            return f"{about}, which had settled the same way already: nothing is left to do."
