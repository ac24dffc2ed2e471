"""Milestones and signals reported by hand, when whoever should have reported them did not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, JsonValue, StringConstraints

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.engine.plans import signals
from fulfillment.engine.work import subjects
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import AlreadySo, OrderUnknown, SubjectUnknown
from fulfillment.models import Fulfillment, Signal
from fulfillment.operations.catalog import perform
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.operations.subjects import order_found

_SOURCE = "by hand"
# What somebody reported by hand, of whatever key; and milestones, whoever reported them.
_REPORTED = """
SELECT coalesce((SELECT max(id) FROM fulfillment_operation WHERE subject = %s AND kind = %s), 0),
       coalesce((SELECT max(id) FROM fulfillment_signal WHERE subject = %s), 0)
"""


class SignalParameters(Parameters):
    name: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(
        description="As the workflow calls the milestone or the signal."
    )
    key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None,
        description="A signal about this business key of the order's owner; without one it is a "
        "milestone of the order itself.",
    )
    payload: dict[str, JsonValue] = Field(
        {}, description="What it brings along: the outputs that the waiting task declares."
    )
    event_id: Annotated[str, StringConstraints(max_length=200)] = Field(
        "", title="Event id", description="The same event is taken in once; empty: a new one."
    )


class SendSignal(Repair):
    """Report by hand what should have been reported: whoever waits for it goes on."""

    action = Action.SIGNAL_SEND
    kind = "send_signal"
    about = "order"
    parameters = SignalParameters
    is_audited = False

    def find(self, *, name: str) -> Found:
        try:
            return order_found(name=name)
        except SubjectUnknown:
            raise OrderUnknown(f"There is no order {name[:100]}; write it as O-17.") from None

    def aim(self, found: Found, parameters: SignalParameters) -> Found:
        """Whoever waits with a key may be any order of its owner: only what covers all of them
        covers that."""
        if parameters.key is None:
            return found
        known = found.context
        return replace(
            found,
            context=Context(
                subject=known.subject, order_reference=known.order_reference, owner=known.owner
            ),
        )

    def version(self, unit: Unit, found: Found) -> str:
        """Another as soon as anything of this order is reported: it may have been the same."""
        unit.raw.execute(_REPORTED, [found.subject, self.kind, _subject(found, None)])
        by_hand, milestone = unit.raw.fetchone() or (0, 0)
        return f"reported {by_hand} {milestone}"

    def carry_out(self, unit: Unit, found: Found, parameters: SignalParameters, why: Why) -> Done:
        subject = _subject(found, parameters.key)
        received = signals.keep(
            unit.raw,
            source=_SOURCE,
            event_id=parameters.event_id or uuid.uuid4().hex,
            name=parameters.name,
            subject=subject,
            payload=parameters.payload,
        )
        if received.duplicate:
            raise AlreadySo(
                f"{parameters.event_id!r} was reported before, as signal {received.signal_id}; "
                "nothing was done."
            )
        waiting = signals.waiting_for(unit.raw, name=parameters.name, subject=subject)
        goes_on = f"{waiting} tasks wait for it and go on"
        return Done(
            told=f"{parameters.name} of {subject} is reported; "
            + (goes_on if waiting else "nothing waits for it yet: what begins to, finds it")
            + ".",
            after={"name": parameters.name, "subject": subject, "signal": received.signal_id},
            customer_impact="What waits for it goes on." if waiting else "None.",
            result={"signal": received.signal_id},
        )

    def afterwards(self, done: Done) -> Done:
        signals.tell(signal_id=done.result["signal"])
        return done


def send_signal(
    *,
    order_reference: str,
    name: str,
    actor: Actor,
    reason: str,
    key: str | None = None,
    payload: Mapping[str, Any] | None = None,
    event_id: str = "",
) -> signals.Received:
    """Report a milestone of an order; with a `key` a signal about that key of the order's owner.

    Raises as `catalog.perform` does, OrderUnknown, SignalReused and SignalUnusable.
    """
    request = Request(
        action=Action.SIGNAL_SEND,
        subject=f"order:{order_reference}",
        reason=reason,
        parameters={
            "name": name,
            "key": key,
            "payload": dict(payload or {}),
            "event_id": event_id,
        },
    )
    try:
        done = perform(actor=actor, request=request)
    except AlreadySo:
        known = Signal.objects.get(source=_SOURCE, event_id=event_id)
        return signals.Received(signal_id=known.pk, duplicate=True)
    return signals.Received(signal_id=done.result["signal"], duplicate=False)


def _subject(found: Found, key: str | None) -> str:
    order = Fulfillment.objects.get(pk=found.pk)
    own = order.business_key or order.order_reference
    if key is None:
        return subjects.of_order(business_key=own)
    return subjects.of_key(owner=subjects.owner_of(business_key=own), key=key)
