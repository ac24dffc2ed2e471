"""The last rule: asking target systems whether the order can be done at all.

Such a check calls out, so it can't run inside the unit that takes the order in. The order stays
VALIDATING; this module asks, outside any transaction, and decides in a unit of its own. Checks
have no effect on a target, so asking twice costs a call and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from adapters.contract import Adapter, Command, Outcome, OutcomeKind
from fulfillment.actions import Action
from fulfillment.definitions.references import resolve
from fulfillment.definitions.schema import FeasibilityCheck, Scope
from fulfillment.engine.plans.planning import create_plans
from fulfillment.engine.store import failpoints, targets
from fulfillment.engine.store.database import DATABASE_TROUBLE, clean, cursor
from fulfillment.engine.store.retry import query_delay
from fulfillment.engine.work import cases, hints
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ValueUnavailable
from fulfillment.models import CaseCategory, TargetCondition
from fulfillment.published import definition_of
from oms.environment import ORCHESTRATION_QUEUE
from oms.intake import workflows
from oms.intake.plans import Plannable, plan_request, snapshot
from oms.intake.requests import ItemRequest, OrderFault, OrderRequest
from oms.models import Order
from oms.states import ItemAction, OrderState
from oms.transitions import change

logger = logging.getLogger(__name__)

ASKING = "Its target systems are being asked whether it can be done."
TASK = "oms.tasks.assess_feasibility"
_BATCH = 50
_ASKERS = 8
_asking = threading.Lock()
_ESCALATE_AFTER = 5
"""Unanswered rounds after which a person is told; it goes on being asked."""
_FIRST_PAUSE = timedelta(seconds=2)
# Who has been asked for in vain comes after the others, or many of them would hide these.
_TAKE = """
UPDATE oms_order SET feasibility_due_at = fulfillment_now() + interval '60 seconds'
WHERE id IN (
    SELECT id FROM oms_order WHERE feasibility_due_at <= (SELECT fulfillment_now())
    ORDER BY feasibility_attempts > 0, priority DESC, feasibility_due_at, id LIMIT %s
    FOR UPDATE SKIP LOCKED
) RETURNING id
"""

_KEEP = """
UPDATE oms_order SET feasibility_due_at = fulfillment_now() + interval '60 seconds' + %s
WHERE id = ANY(%s::bigint[]) AND feasibility_due_at IS NOT NULL
"""

Selectors = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    position: int | None
    check: FeasibilityCheck
    payload: Mapping[str, Any]
    adapter: Adapter


def checks_of(
    request: OrderRequest, selectors: Selectors
) -> list[tuple[int | None, FeasibilityCheck]]:
    """What the order's workflows want asked: per item (with its position) or once (None)."""
    found: list[tuple[int | None, FeasibilityCheck]] = []
    once: set[int] = set()
    for position, item in request.lines():
        workflow_id = selectors.get((item.offering, item.action))
        if workflow_id is None:
            continue
        for check in definition_of(workflow_id).feasibility:
            if check.scope is Scope.ITEM:
                found.append((position, check))
            elif workflow_id not in once:
                found.append((None, check))
        once.add(workflow_id)
    return found


def nudge() -> None:
    """Ask soon; the scanner's beat asks anyway."""
    hints.nudge(task=TASK, queue=ORCHESTRATION_QUEUE)


def assess() -> int:
    """Ask for a batch of the orders that are due, and let each go on or be rejected.

    Returns how many were asked for. One batch at a time in a process: a target system that does
    not answer must not occupy the threads that scan and sweep as well.
    """
    if not _asking.acquire(blocking=False):
        return 0
    try:
        return _assess()
    finally:
        _asking.release()


def _assess() -> int:
    with cursor() as raw:
        raw.execute(_TAKE, [_BATCH], prepare=True)
        taken = [row[0] for row in raw.fetchall()]
    orders = list(Order.objects.filter(pk__in=taken).prefetch_related("items"))
    inquiries = _inquiries(orders)
    _keep(taken, inquiries)
    with ThreadPoolExecutor(_ASKERS, thread_name_prefix="feasibility") as askers:
        answers = {askers.submit(_ask, inquiry): inquiry for inquiry in inquiries}
        for answer in as_completed(answers):
            inquiry = answers[answer]
            failpoints.reach("feasibility.before_deciding")
            try:
                run_unit(
                    partial(_decide, order_id=inquiry.order.pk, answer=answer.result()),
                    fulfillment_ids=[inquiry.order.fulfillment_id],
                    actor="feasibility",
                )
            except DATABASE_TROUBLE:
                raise  # The database's trouble is nobody's fault.
            except Exception as error:
                # Its neighbours go on; it is asked for again when its time is over.
                logger.exception(
                    "feasibility not decided", extra={"order": inquiry.order.reference}
                )
                _file(inquiry.order, error)
    if len(taken) == _BATCH:
        nudge()
    return len(orders)


@dataclass(slots=True, kw_only=True)
class _Inquiry:
    """What is to be asked about one order, and what is known without asking."""

    order: Order
    questions: list[_Question] = field(default_factory=list)
    faults: list[OrderFault] = field(default_factory=list)
    trouble: str = ""


def _inquiries(orders: Sequence[Order]) -> list[_Inquiry]:
    """Everything that needs the database, before the asking threads start."""
    selectors = workflows.newest_versions(
        offerings={item.offering for order in orders for item in order.items.all()}
    )
    paused = set(
        TargetCondition.objects.exclude(paused_at=None).values_list("target_id", flat=True)
    )
    inquiries = []
    for order in orders:
        inquiry = _Inquiry(order=order)
        try:
            _prepare(inquiry, selectors, paused)
        except Exception as error:  # a target's row that can't work is no fault of other orders
            logger.exception("feasibility can't be asked", extra={"order": order.reference})
            inquiry.trouble = f"It can't be asked: {error}"
        inquiries.append(inquiry)
    return inquiries


def _prepare(inquiry: _Inquiry, selectors: Selectors, paused: Collection[str]) -> None:
    request = request_of(inquiry.order)
    context = snapshot(inquiry.order, request)
    for position, check in checks_of(request, selectors):
        if check.target in paused:
            inquiry.trouble = f"{check.target} is paused."
            return
        scope = {"order": context["order"], "items": list(context["items"].values())}
        if position is not None:
            scope["item"] = context["items"][str(position)]
        try:
            payload = {name: resolve(value, scope) for name, value in check.input.items()}
        except ValueUnavailable as error:
            inquiry.faults.append(
                OrderFault(
                    code="feasibility.value_missing",
                    path="order" if position is None else f"items[{position - 1}]",
                    message=str(error),
                )
            )
            continue
        adapter = targets.adapter_for(targets.get(check.target))
        inquiry.questions.append(
            _Question(position=position, check=check, payload=payload, adapter=adapter)
        )


def _keep(order_ids: Sequence[int], inquiries: Sequence[_Inquiry]) -> None:
    """Nobody else asks for these orders before all the answers could be there."""
    waits = [
        sum((question.check.timeout for question in inquiry.questions), timedelta(0))
        for inquiry in inquiries
    ]
    longest = sum(waits, timedelta(0)) / _ASKERS + max(waits, default=timedelta(0))
    if longest > timedelta(0):
        with cursor() as raw:
            raw.execute(_KEEP, [longest, list(order_ids)], prepare=True)


_Answer = tuple[list[OrderFault], str]
"""Every fault that was found, and what kept a target from answering, if anything did."""


def _ask(inquiry: _Inquiry) -> _Answer:
    faults = list(inquiry.faults)
    if inquiry.trouble:
        return faults, inquiry.trouble
    for number, question in enumerate(inquiry.questions):
        check = question.check
        outcome = _call(inquiry.order, number, question)
        if outcome.kind is OutcomeKind.SUCCEEDED:
            continue
        reason = clean(outcome.message or outcome.code, 500) or "no reason given"
        if outcome.kind is OutcomeKind.REJECTED:
            faults.append(
                OrderFault(
                    code="feasibility.refused",
                    path="order"
                    if question.position is None
                    else f"items[{question.position - 1}]",
                    message=f"{check.target} says that it can't be done: {reason}",
                )
            )
        else:
            return faults, f"{check.target} did not answer {check.action}: {reason}"
    return faults, ""


def _call(order: Order, number: int, question: _Question) -> Outcome:
    check = question.check
    key = json.dumps([order.reference, order.version, "feasibility", number])
    try:
        return question.adapter.send(
            command=Command(
                command_id=0,
                idempotency_key=hashlib.sha256(key.encode()).hexdigest(),
                target=check.target,
                action=check.action,
                payload=question.payload,
                order_reference=order.reference,
                correlation_id=key,
                attempt=order.feasibility_attempts + 1,
                deadline=check.timeout,
            )
        )
    except Exception as error:  # an adapter's fault must not keep other orders waiting
        return Outcome(kind=OutcomeKind.UNKNOWN, code="adapter_raised", message=str(error))


def _decide(unit: Unit, order_id: int, answer: _Answer) -> None:
    faults, trouble = answer
    order = Order.objects.prefetch_related("items").get(pk=order_id)
    if order.state != OrderState.VALIDATING:
        return
    order.feasibility_attempts += 1
    if trouble:
        order.feasibility_due_at = unit.now + query_delay(
            reconcile_after=_FIRST_PAUSE, unanswered=order.feasibility_attempts
        )
        order.waiting_reason = f"{trouble} It is asked again, attempt by attempt."
        order.save(update_fields=["feasibility_due_at", "feasibility_attempts", "waiting_reason"])
        if order.feasibility_attempts >= _ESCALATE_AFTER:
            cases.open_case(unit, fallout=_unanswered(order, trouble))
        return
    cases.resolve_cases(
        unit, subjects=[_case_of(order)], resolution="Its target systems have answered since."
    )
    order.feasibility_due_at, order.waiting_reason = None, ""
    request = request_of(order)
    selectors = workflows.newest_versions(offerings={item.offering for item in request.items})
    cause = "its target systems say that it can't be done"
    if not faults and (faults := Plannable().faults_of(request, selectors)):
        cause = "its workflows can't fulfil it"
    if faults:
        order.faults = [fault.document() for fault in faults]
        moved = change(
            order,
            Order.reject,
            cause=cause,
            now=unit.now,
            event_type="OrderRejected",
            faults=order.faults,
        )
    else:
        moved = change(order, Order.accept, cause="every rule passed", now=unit.now)
    order.save()
    unit.record_order(moved)
    if order.state == OrderState.READY_FOR_FULFILLMENT:
        create_plans(unit, requests=[plan_request(order, request, selectors)])


def forget(unit: Unit, *, order: Order) -> None:
    """Nobody is asked about the order any more; an answer that is on its way finds it decided."""
    order.feasibility_due_at, order.waiting_reason = None, ""
    cases.resolve_cases(
        unit, subjects=[_case_of(order)], resolution="Its order has been cancelled."
    )


def _file(order: Order, error: Exception) -> None:
    run_unit(
        lambda unit: cases.open_case(
            unit,
            fallout=cases.poison(
                subject=_case_of(order),
                what=f"{order.reference} can't be accepted",
                error=error,
                fulfillment_id=order.fulfillment_id,
            ),
        ),
        fulfillment_ids=[order.fulfillment_id],
        actor="feasibility",
    )


def _case_of(order: Order) -> str:
    return f"feasibility:{order.reference}"


def _unanswered(order: Order, trouble: str) -> cases.Fallout:
    return cases.Fallout(
        subject=_case_of(order),
        category=CaseCategory.RETRYING,
        reason_code="feasibility_unanswered",
        title=f"{order.reference} · nobody can tell whether it can be done",
        explanation=f"{trouble} It has been asked {order.feasibility_attempts} times and goes on "
        "being asked every few minutes; the order is not accepted before. Look whether the "
        "target system is well and whether the check of the workflow asks the right question.",
        facts={"attempts": order.feasibility_attempts, "last_answer": trouble},
        repair_options=(Action.TARGET_EDIT, Action.ORDER_CANCEL),
        fulfillment_id=order.fulfillment_id,
        customer_impact="The order is not accepted yet.",
    )


def request_of(order: Order) -> OrderRequest:
    """The order as it came in, read back from its rows."""
    items = list(order.items.all())
    names = {item.pk: item.item_id for item in items}
    return OrderRequest(
        external_id=order.external_id,
        customer_id=order.customer_id,
        customer_name=order.customer_name,
        customer_tier=order.customer_tier,
        customer_email=order.customer_email,
        billing_account=order.billing_account,
        region=order.region,
        channel=order.channel,
        requested_at=order.requested_at,
        promised_at=order.promised_at,
        priority=order.priority,
        items=[
            ItemRequest(
                item_id=item.item_id,
                action=ItemAction(item.action),
                offering=item.offering,
                quantity=item.quantity,
                parent_id=names.get(item.parent_id, "") if item.parent_id else "",
                characteristics=item.characteristics,
                one_off_price=item.one_off_price,
                recurring_price=item.recurring_price,
                currency=item.currency,
                place=item.place,
                parties=item.parties,
                asset=item.asset,
                relations=item.relations,
                position=item.position,
            )
            for item in items
        ],
    )
