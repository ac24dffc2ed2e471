"""Giving a plan up, or changing what it is for: assessed, awaited, and carried out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.assessment import Assessment
from fulfillment.definitions.concern import ChangeKind
from fulfillment.definitions.graph import Graph
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan
from fulfillment.states import PlanState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the plan shall be for from now on: the revised order, as `intake.plans` makes it."""

    graph: Graph
    context: Mapping[str, Any]
    order_version: int
    changed: Mapping[int, Collection[ChangeKind]]
    """Position of an item -> what is new about it; 0 stands for the order as a whole. An item that
    comes or goes is ChangeKind.ITEMS of 0."""
    anew: bool = False
    """Everything that has been done is undone and done again (cancel and recreate)."""


def assess(
    unit: Unit,
    *,
    plan: Plan,
    wanted: Wanted | None,
    bundles: Collection[Collection[int]] = (),
) -> Assessment:
    """What would become of an active plan; changes nothing. None: it is given up as a whole.

    `bundles` are positions of items that belong together: the point of no return of one is that
    of all.
    """
    raise NotImplementedError


def await_rest(unit: Unit, *, plan: Plan, reason: str) -> None:
    """Nothing more of the plan is sent from the commit on; when nothing is in flight any more the
    order desk is asked to decide (`OrderPort.decide`). Does nothing where that is so already."""
    raise NotImplementedError


def let_go_on(unit: Unit, *, plan: Plan, reason: str) -> None:
    """What `await_rest` has kept back goes on: it was decided that nothing changes."""
    raise NotImplementedError


def carry_out(
    unit: Unit,
    *,
    plan: Plan,
    wanted: Wanted | None,
    assessment: Assessment,
    reason: str,
    ends_as: PlanState = PlanState.CANCELLED,
) -> Plan:
    """Another plan takes its place, with what has to be undone, and the hold is released.

    `assessment` is what `assess` has just said in this unit, refuses nothing and is at rest. With
    `wanted` None the new plan is COMPENSATING and ends as `ends_as` says: at once, when there is
    nothing to undo. The order desk hears of that as PlanChange.CANCELLED or FAILED.
    """
    raise NotImplementedError
