"""Placing holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, Field

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.context import Context
from fulfillment.engine.protection import holds
from fulfillment.engine.store import graphs
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import HoldWouldBeOver, NothingToHold, SubjectUnknown
from fulfillment.models import HELD_BY_HAND, ClockPolicy, Hold, HoldScope, Plan
from fulfillment.operations.catalog import prepared
from fulfillment.operations.in_flight import BRIEFLY, PATIENCE, Placed, await_calls, on_the_wire
from fulfillment.operations.keeping_back import ready_in
from fulfillment.operations.records import known_target, now_of
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Request, Why
from fulfillment.operations.subjects import (
    context_of,
    number_of,
    order_found,
    target_context,
    task_found,
)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is too far away") from None


class HoldParameters(Parameters):
    until: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        None, title="Until (UTC)", description="It ends by itself then; else when it is released."
    )
    clock_policy: ClockPolicy = Field(
        ClockPolicy.RUN,
        title="Clocks",
        description="What the clocks that customers were promised do meanwhile.",
    )


class PlaceHold(Repair):
    """Nothing in its scope is sent until it is released. Target systems are still asked what
    became of what was sent before."""

    action = Action.HOLD_PLACE
    kind = "place_hold"
    about = "order"
    also_about = tuple(scope.lower() for scope in HELD_BY_HAND if scope is not HoldScope.ORDER)
    parameters = HoldParameters

    def find(self, *, name: str) -> Found:
        return self.found(subject=f"order:{name}")

    def found(self, *, subject: str) -> Found:
        kind, _, name = subject.partition(":")
        try:
            scope = HoldScope(kind.upper())
        except ValueError:
            scopes = ", ".join(scope.lower() for scope in HELD_BY_HAND)
            raise NothingToHold(f"What may be held is: {scopes}; not {kind[:60]!r}.") from None
        return held_found(scope=scope, name=name)

    def version(self, unit: Unit, found: Found) -> str:
        held = Hold.objects.filter(subject=found.subject, released_at=None)
        return f"held by {sorted(held.values_list('pk', flat=True))}"

    def carry_out(self, unit: Unit, found: Found, parameters: HoldParameters, why: Why) -> Done:
        kind, _, name = found.subject.partition(":")
        scope = HoldScope(kind.upper())
        # Before the gate: no claim is to wait while this counts.
        kept = ready_in(unit.raw, scope=scope, name=name)
        holds.close_gate(unit.raw)
        # Read again: claims may have committed while this waited at the gate.
        unit.now = now_of(unit.raw)
        until = parameters.until
        if until is not None and until <= unit.now:
            raise HoldWouldBeOver(
                f"It would end at {until:%Y-%m-%d %H:%M} UTC, which has passed. Give a later "
                "time, or none: then it ends when it is released."
            )
        hold = Hold.objects.create(
            scope=scope,
            subject=found.subject,
            reason=why.reason,
            clock_policy=parameters.clock_policy,
            until=until,
            placed_by=why.actor.name,
            placed_at=unit.now,
        )
        record_hold(unit, found=found, hold=hold, kind=self.kind, why=why, states=("", "PLACED"))
        return Done(
            told=f"Nothing more of {found.subject} is sent until hold {hold.pk} is released"
            f"{f', or {until:%Y-%m-%d %H:%M} UTC' if until else ''}; it keeps back {kept}.",
            after={
                "hold": hold.pk,
                "until": until.isoformat() if until else None,
                "keeps_back": kept.document(),
            },
            customer_impact="What it keeps back is done later."
            if kept.tasks
            else "None, as long as nothing of it is due.",
            result={"hold": hold.pk},
        )

    def afterwards(self, done: Done) -> Done:
        hold = Hold.objects.get(pk=done.result["hold"])
        left = await_in_flight(hold=hold, patience=BRIEFLY)
        return replace(
            done,
            told=f"{done.told} {on_the_wire(left)}",
            result={**done.result, "in_flight": left},
        )


def place_hold(
    *,
    scope: HoldScope,
    name: str,
    reason: str,
    actor: Actor,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
    patience: timedelta = PATIENCE,
) -> Placed:
    """Let nothing in this scope be sent until the hold is released or `until` has come.

    `name` as in `holds.subject_of`. Queries about what was sent before go on. Raises as
    `catalog.perform` does, HoldWouldBeOver, and NothingToHold when there is no such order, plan,
    task, item or target.
    """
    request = hold_request(
        scope=scope, name=name, reason=reason, until=until, clock_policy=clock_policy
    )
    done = prepared(actor=actor, request=request).commit()
    hold = Hold.objects.get(pk=done.result["hold"])
    return Placed(hold_id=hold.pk, in_flight=await_in_flight(hold=hold, patience=patience))


def hold_request(
    *,
    scope: HoldScope,
    name: str,
    reason: str,
    until: datetime | None = None,
    clock_policy: ClockPolicy = ClockPolicy.RUN,
) -> Request:
    """What asks for such a hold."""
    return Request(
        action=Action.HOLD_PLACE,
        subject=holds.subject_of(scope=scope, name=name),
        reason=reason,
        parameters={
            "until": until.isoformat() if until else None,
            "clock_policy": clock_policy.value,
        },
    )


def await_in_flight(*, hold: Hold, patience: timedelta) -> int:
    """Until no call is under way that began before the hold; how many are left after `patience`."""
    return await_calls(
        lambda purpose, task: purpose != "QUERY" and hold.subject in holds.subjects_of(task),
        since=hold.placed_at,
        patience=patience,
    )


def held_found(*, scope: HoldScope, name: str) -> Found:
    """What a hold of this scope is about. Raises NothingToHold."""
    subject = holds.subject_of(scope=scope, name=name)
    wide: Mapping[HoldScope, Any] = {
        HoldScope.CUSTOMER: _customer,
        HoldScope.TARGET: _target,
        HoldScope.ACTION: _action,
    }
    if scope in wide:
        context: Context = wide[scope](subject, name)
        return Found(subject=subject, pk=0, context=context)
    if scope is HoldScope.CHANGE:
        raise NothingToHold("Such a hold is the engine's own; hold the order, or its plan.")
    narrow: Mapping[HoldScope, Any] = {
        HoldScope.ORDER: lambda: order_found(name=name),
        HoldScope.ITEM: lambda: _item(subject, name),
        HoldScope.PLAN: lambda: _plan(subject, name),
        HoldScope.TASK: lambda: task_found(name=name),
    }
    try:
        found: Found = narrow[scope]()
    except SubjectUnknown:
        raise _nothing(scope, name) from None
    if name.isdigit() and found.subject != subject:
        raise _nothing(scope, name)  # Nobody means the task 7 by 007.
    return found


def record_hold(
    unit: Unit, *, found: Found, hold: Hold, kind: str, why: Why, states: tuple[str, str]
) -> None:
    """In the audit trail of its order, when it is about one."""
    for fulfillment_id in found.fulfillment_ids:
        unit.record(
            fulfillment_id=fulfillment_id,
            entity="hold",
            entity_id=str(hold.pk),
            name=kind,
            before=states[0],
            after=states[1],
            cause=why.reason,
            details={"subject": hold.subject},
        )


def _customer(subject: str, name: str) -> Context:
    if not name:
        raise NothingToHold("Name the customer.")
    return Context(subject=subject)


def _target(subject: str, name: str) -> Context:
    known_target(name)
    return target_context(subject=subject, target=name)


def _action(subject: str, name: str) -> Context:
    target, _, action = name.partition("/")
    known_target(target)
    if not action:
        raise NothingToHold("Name the action as <target>/<action>.")
    return target_context(subject=subject, target=target)


def _item(subject: str, name: str) -> Found:
    reference, _, position = name.partition("/")
    plan = (
        Plan.objects.select_related("fulfillment")
        .filter(fulfillment__order_reference=reference, context__items__has_key=position)
        .order_by("-order_version", "-version")
        .first()
    )
    if plan is None:
        raise _nothing(HoldScope.ITEM, name)
    return _of_plan(subject, plan, pk=0, position=int(position))


def _plan(subject: str, name: str) -> Found:
    number = number_of(name, about="plan")
    plan = Plan.objects.select_related("fulfillment").filter(pk=number).first()
    if plan is None:
        raise _nothing(HoldScope.PLAN, name)
    return _of_plan(f"plan:{plan.pk}", plan, pk=plan.pk)


def _of_plan(subject: str, plan: Plan, *, pk: int, position: int | None = None) -> Found:
    nodes = graphs.by_id(plan.graph_id).nodes
    return Found(
        subject=subject,
        pk=pk,
        fulfillment_ids=(plan.fulfillment_id,),
        context=context_of(
            subject=subject,
            order=plan.fulfillment,
            plan=plan,
            targets={node.target for node in nodes if position is None or position in node.items}
            - {""},
            positions=None if position is None else {position},
        ),
    )


def _nothing(scope: HoldScope, name: str) -> NothingToHold:
    return NothingToHold(
        f"There is no {scope.lower()} {name[:100]!r}. An order is named by its reference, an item "
        "as <reference>/<position>, a plan or a task by its number."
    )
