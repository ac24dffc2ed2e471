"""Stands in for the order desk: somebody asks for orders to be given up, or changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from fulfillment.definitions.assessment import Assessment
from fulfillment.engine.plans import undoing, withholding
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.work.port import Notice, OrderEvent, OrderTransition
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan
from fulfillment.states import PLAN_TERMINAL

WHY = "a test"


@dataclass
class Asked:
    """What somebody wants of an order that runs; `wanted` is None when it is given up."""

    wanted: Callable[[Plan], Wanted] | None
    carried_out: Callable[[Assessment], None]
    refused: Callable[[Assessment], None]


@dataclass
class Desk:
    """The engine's port."""

    asked: dict[int, Asked] = field(default_factory=dict)
    told: list[Notice] = field(default_factory=list)

    def notify(
        self, *, notices: Sequence[Notice], now: datetime
    ) -> Sequence[OrderTransition | OrderEvent]:
        self.told += notices
        return ()

    def watched(self, *, graph_id: int) -> Collection[int]:
        return [node.index for node in graphs.by_id(graph_id).nodes if node.undoes]

    def decide(self, *, fulfillment_ids: Sequence[int]) -> None:
        for one in fulfillment_ids:
            if one in self.asked:
                self.look(one)

    def awaits_rest(self, *, fulfillment_id: int) -> bool:
        return fulfillment_id in self.asked

    def look(self, order: int) -> None:
        """Carry out what was asked for, refuse it, or wait until it can be done."""
        asked = self.asked[order]
        found, is_done = run_unit(
            partial(_decide, order=order, asked=asked), fulfillment_ids=[order], actor=WHY
        )
        if found.refusals:
            del self.asked[order]
            asked.refused(found)
        elif is_done:
            del self.asked[order]
            asked.carried_out(found)


def _decide(unit: Unit, *, order: int, asked: Asked) -> tuple[Assessment, bool]:
    row = active(order)
    if row is None:
        message = "It has ended."
        over = undoing.Refusal(code="being_undone", message=message)
        return Assessment(fates=(), charges=(), refusals=(over,), in_flight=()), False
    unit.adopt_plans(plans_by_id(unit.raw, [row.pk]))
    plan = unit.plans[row.pk]
    wanted = asked.wanted and asked.wanted(row)
    found = undoing.assess(unit, plan=plan, wanted=wanted)
    if found.refusals:
        withholding.let_go_on(unit, plan=plan, reason=WHY)
    elif found.is_at_rest:
        undoing.carry_out(unit, plan=plan, wanted=wanted, assessment=found, reason=WHY)
    else:
        withholding.await_rest(unit, plan=plan, reason=WHY)
    return found, not found.refusals and found.is_at_rest


def active(order: int) -> Plan | None:
    return Plan.objects.filter(fulfillment_id=order).exclude(state__in=PLAN_TERMINAL).first()
