"""Amending: an order becomes another one while it is fulfilled (reference §20).

Nothing of a running plan is changed. The revised order is compared with it, task by task, and the
next version of the plan keeps what still holds, undoes what does not, and does the rest. What a
preview shows is found by the very function that decides.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fulfillment.definitions.assessment import Assessment, Becomes
from fulfillment.engine.plans import awaiting, undoing, withholding
from fulfillment.engine.plans.concern import Wanted
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import DATABASE_TROUBLE
from fulfillment.engine.structure import priorities
from fulfillment.engine.work import cases
from fulfillment.engine.work.rows import plans_by_id
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.models import Plan
from fulfillment.states import PLAN_GOING_ON
from oms import installed_base, terms
from oms.changes import requesting
from oms.changes.assessed import assessment_document, picture, refusals_document
from oms.changes.bundles import bundles_of
from oms.changes.change_orders import change_order
from oms.changes.differing import Difference, differ, leaving_out, unchangeable
from oms.changes.documents import read_back
from oms.changes.errors import AmendmentError, invalid
from oms.changes.replanning import wanted_by
from oms.changes.requesting import Wish
from oms.changes.revising import revise
from oms.intake import workflows
from oms.intake.feasibility import request_of
from oms.intake.requests import OrderRequest
from oms.intake.rules import faults_of
from oms.models import AmendmentRequest, AmendmentState, Mode, Order, OrderItem
from oms.queries.orders import newest_plan
from oms.states import ItemAction, OrderState

logger = logging.getLogger(__name__)

_ACTOR = "amendments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a wish would mean for an order as it is now."""

    before: OrderRequest
    difference: Difference
    names: Mapping[int, str]
    """Of all items, old ones and new ones, by position."""
    plan: Plan | None = None
    wanted: Wanted | None = None
    assessment: Assessment | None = None
    change: OrderRequest | None = None
    """The order that would change this one's results afterwards."""
    otherwise: bool = False
    """It is refused, and a change order would be possible."""

    @property
    def refusals(self) -> list[dict[str, Any]]:
        refused = () if self.assessment is None else self.assessment.refusals
        return refusals_document(refused, names=self.names)

    @property
    def offers(self) -> list[str]:
        """Modes by which it would be possible, where it is not like this."""
        return [Mode.CHANGE_ORDER.value] if self.otherwise else []

    def document(self) -> dict[str, Any]:
        if self.assessment is None:
            return {"tasks": [], "charges": [], "waits_for": [], "offers": []}
        said = assessment_document(self.assessment, names=self.names)
        return {**said, "offers": self.offers}

    def graph(self) -> dict[str, list[dict[str, Any]]]:
        """The plan as it is and as it would be, in one picture."""
        if self.plan is None or self.wanted is None or self.assessment is None:
            return {"nodes": [], "edges": []}
        return picture(
            before=graphs.by_id(self.plan.graph_id),
            after=self.wanted.graph,
            fates=self.assessment.fates,
            names=self.names,
        )


def preview(unit: Unit, *, order_id: int, wish: Wish) -> Found:
    """What `amend` would do now; changes nothing. Raises AmendmentError."""
    order = Order.objects.get(pk=order_id)
    requesting.check_version(order, wish)
    return _look(unit, order, wish)


def amend(unit: Unit, *, order_id: int, wish: Wish) -> AmendmentRequest:
    """Make the order the revised one: now, or as soon as what is under way has ended.

    The request says what became of it: APPLIED, DENIED with its refusals, ASSESSING while
    something of it is under way, WAITING_FOR_COMPLETION for a change order. The same wish again is
    the same request. Raises AmendmentError when nothing is kept of it.
    """
    order = Order.objects.get(pk=order_id)
    known = requesting.same_again(order, wish)
    if known is not None:
        return known
    requesting.check_version(order, wish)
    found = _look(unit, order, wish)
    earlier = requesting.open_request(order)
    if earlier is not None:
        requesting.move(
            unit,
            earlier,
            AmendmentRequest.give_way,
            cause=f"version {wish.version} of the order has come",
        )
    request = requesting.record(
        unit, order=order, wish=wish, difference=found.difference.document(found.names)
    )
    if found.change is not None:
        request.chosen = Mode.CHANGE_ORDER
        cause = "another order changes what this one makes, once it is complete"
        requesting.move(unit, request, AmendmentRequest.await_completion, cause=cause)
        _let_go_on(unit, order, reason=cause)
        requesting.nudge()
    else:
        _decide(unit, order, request, found)
    return request


def decide_due(*, fulfillment_ids: Collection[int]) -> None:
    """Nothing of these is under way any more that somebody has waited for: decide what is asked.

    Each order in a unit of its own. Again it decides nothing anew.
    """
    waiting = AmendmentRequest.objects.filter(
        state=AmendmentState.ASSESSING, order__fulfillment_id__in=list(fulfillment_ids)
    )
    for request_id, fulfillment_id in waiting.values_list("pk", "order__fulfillment_id"):
        decide_one(request_id=request_id, fulfillment_id=fulfillment_id)


def decide_one(*, request_id: int, fulfillment_id: int) -> None:
    """One request that is being assessed; its neighbours do not wait for one that fails."""
    try:
        run_unit(
            partial(_decide_again, request_id=request_id),
            fulfillment_ids=[fulfillment_id],
            actor=_ACTOR,
        )
    except DATABASE_TROUBLE:
        raise
    except Exception as error:
        logger.exception("an amendment can't be decided", extra={"amendment": request_id})
        requesting.file(request_id=request_id, fulfillment_id=fulfillment_id, error=error)


def _decide_again(unit: Unit, request_id: int) -> None:
    request = AmendmentRequest.objects.select_related("order").get(pk=request_id)
    order = request.order
    if request.state != AmendmentState.ASSESSING:
        return
    if order.state == OrderState.ASSESSING_CANCELLATION:
        return  # That is decided first.
    try:
        found = _look(unit, order, requesting.wish_of(request))
    except AmendmentError as error:
        if error.code == "amendment.too_early":
            return  # The engine decides first; then this is looked at again.
        requesting.deny(unit, request, [requesting.refusal(error)], cause=error.message)
        _let_go_on(unit, order, reason=error.message)
        return
    _decide(unit, order, request, found)
    cases.resolve_cases(
        unit, subjects=[requesting.case_of(request)], resolution="It has been decided since."
    )


def _decide(unit: Unit, order: Order, request: AmendmentRequest, found: Found) -> None:
    """Deny it, carry it out, or wait until what it concerns is known."""
    plan, wanted, assessment = found.plan, found.wanted, found.assessment
    assert plan is not None
    assert wanted is not None
    assert assessment is not None
    request.assessment = found.document()
    if assessment.refusals:
        cause = " ".join(refusal.message for refusal in assessment.refusals)
        requesting.deny(unit, request, found.refusals, cause=cause)
        _let_go_on(unit, order, reason=f"It is not amended: {cause}")
        return
    reason = f"amended to version {request.version}: {request.reason}"
    if not assessment.is_at_rest:
        request.save(update_fields=["assessment"])
        withholding.await_rest(unit, plan=plan, reason=f"It is to be {reason}")
        return
    asked_before = order.priority
    revise(
        unit,
        order=order,
        before=found.before,
        difference=found.difference,
        version=request.version,
    )
    successor = undoing.carry_out(
        unit, plan=plan, wanted=wanted, assessment=assessment, reason=reason
    )
    if order.priority != asked_before:
        priorities.ask(unit, plan=successor, priority=order.priority)
    _expect(unit, order, plan, successor, found)
    awaiting.resume_all(
        unit,
        fulfillment_id=order.fulfillment_id,
        awaits=awaiting.COMMERCE,
        cause=f"it is {reason}",
        answer={"version": request.version},
    )
    request.chosen = Mode.RECREATE if wanted.anew else Mode.AMEND
    requesting.move(unit, request, AmendmentRequest.apply, cause=reason)
    unit.emit(
        fulfillment_id=order.fulfillment_id,
        event_type="OrderAmended",
        payload={
            "state": str(order.state),
            "version": order.version,
            "external_id": order.external_id,
            "amendment": request.number,
            **request.difference,
        },
        plan_id=successor.pk,
    )


# --- one look, for whoever asks -----------------------------------------------------------------


def _look(unit: Unit, order: Order, wish: Wish) -> Found:
    """Raises AmendmentError when there is nothing to assess."""
    plan = _plan_of(unit, order, wish)
    before = request_of(order)
    difference = _difference(unit, order, before, wish)
    names = {
        **dict(OrderItem.ever.filter(order=order).values_list("position", "item_id")),
        **{position: item.item_id for position, item in difference.revised.lines()},
    }
    if plan is None or wish.mode is Mode.CHANGE_ORDER:
        change = change_order(
            order=order, before=before, difference=difference, version=wish.version
        )
        return Found(before=before, difference=difference, names=names, change=change)
    wanted = wanted_by(
        plan=plan,
        order=order,
        difference=difference,
        version=wish.version,
        selectors=_newest(wish.order),
        anew=wish.mode is Mode.RECREATE,
    )
    assessment = undoing.assess(
        unit,
        plan=plan,
        wanted=wanted,
        bundles=bundles_of([before, difference.revised]),
    )
    return Found(
        before=before,
        difference=difference,
        names=names,
        plan=plan,
        wanted=wanted,
        assessment=assessment,
        otherwise=bool(assessment.refusals) and _has_otherwise(order, before, difference, wish),
    )


def _plan_of(unit: Unit, order: Order, wish: Wish) -> Plan | None:
    """The running plan; None where the order is complete, and a change order is asked for."""
    requesting.check_state(order, mode=wish.mode)
    newest = newest_plan(order)
    if order.is_final:
        return None
    if newest is None:
        raise AmendmentError(
            "amendment.too_early",
            f"It is {order.state}: {order.waiting_reason or 'it has no plan yet.'} Send the same "
            "again when it is IN_PROGRESS.",
        )
    unit.adopt_plans(plans_by_id(unit.raw, [newest.pk]))
    plan = unit.plans[newest.pk]
    if plan.giving_up and not withholding.what_of(plan).is_whole:
        raise AmendmentError(
            "amendment.too_early",
            "A part of it has failed and is being given up. Send the same again in a moment.",
        )
    if plan.state not in PLAN_GOING_ON or plan.giving_up:
        raise AmendmentError(
            "amendment.order_is_being_undone",
            "What has been done for the order is being undone, so there is nothing to amend. "
            "Submit what is wanted as a new order.",
        )
    return plan


def _difference(unit: Unit, order: Order, before: OrderRequest, wish: Wish) -> Difference:
    """Raises AmendmentError when the revised order breaks rules, or nothing is new about it."""
    # What runs already may go on by a version that is not the newest any more.
    running = {(item.offering, str(item.action)) for item in before.items}
    owners = installed_base.owners(
        unit.raw, client_id=order.client_id, asset_ids=(item.asset for item in wish.order.items)
    )
    faults = [
        *unchangeable(before=before, after=wish.order),
        *faults_of(wish.order, selectors={*_newest(wish.order), *running}, owners=owners),
    ]
    if faults:
        raise invalid(faults)
    used = OrderItem.ever.filter(order=order).values_list("position", flat=True)
    difference = differ(before=before, after=wish.order, used=list(used))
    if not difference.is_any and wish.mode is not Mode.RECREATE:
        raise AmendmentError(
            "amendment.changes_nothing",
            "The revised order is the order as it is; nothing was changed.",
        )
    return difference


def _newest(request: OrderRequest) -> Mapping[tuple[str, str], int]:
    return workflows.newest_versions(offerings={item.offering for item in request.items})


def _has_otherwise(order: Order, before: OrderRequest, difference: Difference, wish: Wish) -> bool:
    try:
        change_order(order=order, before=before, difference=difference, version=wish.version)
    except AmendmentError:
        return False
    return True


# --- what follows -------------------------------------------------------------------------------


def _expect(unit: Unit, order: Order, plan: Plan, successor: Plan, found: Found) -> None:
    """What the revised order will make of assets: of what is new, and of what is done again.

    Where the activation stays done, the engine tells of it once more, and what has been expected
    here is real in the same moment.
    """
    assert found.assessment is not None
    again = {
        fate.key
        for fate in found.assessment.fates
        if fate.becomes in (Becomes.REDONE, Becomes.UNDONE)
    }
    before = graphs.by_id(plan.graph_id)
    undone = {
        item
        for node, items in terms.of_graph(plan.graph_id).activating.items()
        if before.nodes[node].key in again
        for item in items
    }
    difference = found.difference
    stay = {position for position, _ in difference.revised.lines()}
    agreed = terms.of_graph(successor.graph_id)
    installed_base.revise(
        unit.raw,
        order_id=order.pk,
        gone=difference.gone,
        anew=stay & {*difference.rewritten, *difference.come, *undone},
        planned={(order.pk, position) for position in agreed.planned & stay},
        providing={(order.pk, position) for position in agreed.providing & stay},
        now=unit.now,
    )


def _let_go_on(unit: Unit, order: Order, *, reason: str) -> None:
    """Whatever was kept back for a decision; a cancellation keeps it for one of its own."""
    newest = newest_plan(order)
    if newest is None or order.state != OrderState.IN_PROGRESS:
        return
    unit.adopt_plans(plans_by_id(unit.raw, [newest.pk]))
    plan = unit.plans[newest.pk]
    if plan.state in PLAN_GOING_ON and plan.rest_due_at is not None and not plan.giving_up:
        withholding.let_go_on(unit, plan=plan, reason=reason)


def without_items(*, order: Order, item_ids: Collection[str]) -> OrderRequest:
    """The revised order that the cancellation of these items makes. Raises AmendmentError."""
    before = request_of(order)
    unknown = sorted(set(item_ids) - {item.item_id for item in before.items})
    if unknown:
        raise AmendmentError(
            "amendment.item_unknown",
            f"{order.reference} has no item {', '.join(map(repr, unknown))}; its `items` have "
            "their `item_id`.",
        )
    after = leaving_out(order=before, item_ids=item_ids)
    if all(item.action == ItemAction.NO_CHANGE for item in after.items):
        raise AmendmentError(
            "amendment.nothing_left", "Without these there is no item left: cancel the order."
        )
    return after


def change_of(*, order: Order, request: AmendmentRequest) -> OrderRequest:
    """The change order that was asked for, of the order as it has become complete."""
    before = request_of(order)
    used = OrderItem.ever.filter(order=order).values_list("position", flat=True)
    difference = differ(before=before, after=read_back(request.document), used=list(used))
    return change_order(order=order, before=before, difference=difference, version=request.version)
