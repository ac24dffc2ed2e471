"""Reports that are about nothing of ours: set aside, and brought back (reference §23.2, §29)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from fulfillment.actions import Action
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import NotPossible
from fulfillment.models import Disposition, InboundEvent, Task
from fulfillment.operations.matching import event_found
from fulfillment.operations.repair import Done, Found, Repair, Why


class _Aside(Repair):
    """What both have in common: it moves no task, and the event is kept as it came in."""

    about = "event"
    before: ClassVar[Disposition]
    after: ClassVar[Disposition]

    def find(self, *, name: str) -> Found:
        return event_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return str(InboundEvent.objects.values_list("disposition", flat=True).get(pk=found.pk))

    def carry_out(self, unit: Unit, found: Found, parameters: Any, why: Why) -> Done:
        event = InboundEvent.objects.select_for_update(of=("self",)).get(pk=found.pk)
        if event.disposition != self.before:
            raise NotPossible(f"The event is {event.disposition}{self.instead(event)}")
        event.disposition = self.after
        event.save(update_fields=["disposition"])
        return Done(
            told=f"Event {event.event_id} of {event.source} {self.told(event)}",
            before={"disposition": str(self.before)},
            after={"disposition": str(self.after)},
        )

    @abstractmethod
    def told(self, event: InboundEvent) -> str:
        """What becomes of it, as the end of a sentence."""

    @abstractmethod
    def instead(self, event: InboundEvent) -> str:
        """Why it can't be, as the end of a sentence."""


class DismissEvent(_Aside):
    """It is about nothing of ours: it leaves the unmatched ones, and moves nothing. It is kept,
    may be brought back or matched later, and finds its task if it comes again with its key."""

    action = Action.EVENT_DISMISS
    kind = "dismiss_event"
    from_states = frozenset({str(Disposition.UNMATCHED)})
    before, after = Disposition.UNMATCHED, Disposition.DISMISSED

    def told(self, event: InboundEvent) -> str:
        known = callbacks.command_by_key(key=event.idempotency_key, target=event.source)
        if known is None:
            return "is set aside: it is about nothing of ours."
        # Nobody has to take it in, such as what nobody can read; but they have to know.
        task = Task.objects.select_related("fulfillment").get(pk=known.task_id)
        return (
            f"is set aside although it has the key of {task.key} of "
            f"{task.fulfillment.order_reference}, which stays {task.state}."
        )

    def instead(self, event: InboundEvent) -> str:
        if event.disposition == Disposition.DISMISSED:
            return " already: somebody has set it aside."
        return ": it has its task, and is not set aside."


class RestoreEvent(_Aside):
    """It has to be looked at after all: it is among the unmatched ones again."""

    action = Action.EVENT_RESTORE
    kind = "restore_event"
    from_states = frozenset({str(Disposition.DISMISSED)})
    before, after = Disposition.DISMISSED, Disposition.UNMATCHED

    def told(self, event: InboundEvent) -> str:
        return "is unmatched again, and waits for somebody to say what it is about."

    def instead(self, event: InboundEvent) -> str:
        return ": only what was set aside is brought back."
