"""What whoever looks at an order may do now: to it, to its tasks in trouble, to its cases.

Each leads to the form that shows first what it would do. What is not possible, or not theirs to do,
is not there. Operations that are about one kind of thing are asked for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.http import HttpRequest
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import held_here, reach_here
from fulfillment.admin.operating import operate_address
from fulfillment.models import Hold
from fulfillment.operations.looking import one_look
from fulfillment.operations.offering import help_of, title_of
from fulfillment.operations.subjects import order_found
from fulfillment.states import Cause
from oms.admin.order_page.reasons import Reason
from oms.admin.order_page.standing import ShownCase, ShownManual, Standing
from oms.models import Order

_LABELS: Mapping[Action, str] = {
    Action.TASK_RETRY: "Try again",
    Action.TASK_CORRECT: "Correct what is sent",
    Action.TASK_RECONCILE: "Say what became of it",
    Action.TASK_REFERENCE: "Enter a reference",
    Action.TASK_WAIVE: "Waive",
    Action.TASK_SKIP: "Skip",
    Action.CASE_ASSIGN: "Assign",
    Action.CASE_ESCALATE: "Escalate",
    Action.CASE_AWAIT_CUSTOMER: "Wait for the customer",
    Action.CASE_CLOSE: "Close",
    Action.MANUAL_DECIDE: "Decide",
    Action.MANUAL_CLAIM: "Take",
    Action.MANUAL_RELEASE: "Give back",
    Action.MANUAL_REASSIGN: "Give to somebody else",
    Action.MANUAL_RESUME: "Go on: they have answered",
    Action.HOLD_RELEASE: "Release",
    Action.TARGET_RESUME: "Resume",
}
"""Short, where what it is about stands beside it."""
_OF_FAILED = (
    *(Action.TASK_RETRY, Action.TASK_CORRECT, Action.TASK_WAIVE, Action.TASK_SKIP),
    Action.TASK_RECONCILE,
)
_OF_DOUBTFUL = (Action.TASK_RECONCILE, *_OF_FAILED[:-1])
"""What gets a task in trouble on, the first to think of first; the rest is on its own page."""
_DECIDING = [_LABELS[one] for one in (Action.MANUAL_DECIDE, Action.MANUAL_RESUME)]
_OF_RUNNING = frozenset({Action.HOLD_PLACE, Action.SIGNAL_SEND})
"""What is of no use to an order that is over."""
_FITTING = 4
_OF_ONE_TASK = 3
_HOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """One thing that may be done, and the form that shows what it would do."""

    label: str
    help: str
    address: str
    about: str = ""
    """What it is done to, where that does not stand beside it."""


@dataclass(slots=True, kw_only=True)
class MayBeDone:
    """Each row of the page with what stands beside it."""

    fitting: list[Doing] = field(default_factory=list)
    """What is most likely to help, at most four."""
    order: list[Doing] = field(default_factory=list)
    troubles: list[tuple[Reason, list[Doing]]] = field(default_factory=list)
    cases: list[tuple[ShownCase, list[Doing]]] = field(default_factory=list)
    manual: list[tuple[ShownManual, list[Doing]]] = field(default_factory=list)
    holds: list[tuple[Hold, list[Doing]]] = field(default_factory=list)

    @property
    def explained(self) -> list[tuple[str, str]]:
        """What stands beside rows, each once: its label, and what it does."""
        groups: tuple[Iterable[tuple[object, list[Doing]]], ...]
        groups = (self.troubles, self.cases, self.manual, self.holds)
        every = (one for rows in groups for _, doings in rows for one in doings)
        return list({one.label: one.help for one in every}.items())

    @property
    def is_left_to_others(self) -> bool:
        """There is trouble, and nothing that they may do ends it."""
        return any(not reason.goes_on for reason, _ in self.troubles) and not any(
            doings for _, doings in self.troubles
        )

    @property
    def is_nothing(self) -> bool:
        return not (self.order or self.explained)


def may_be_done(*, request: HttpRequest, order: Order, standing: Standing) -> MayBeDone:
    """For whoever asks; a fixed number of queries, and one for each hold and what it is on."""
    with one_look():
        return _may_be_done(request, order, standing)


def kept_from(request: HttpRequest, order: Order) -> str:
    """Why whoever is at the browser may not take its evidence; empty: they may."""
    reach = reach_here(request)
    if Action.ORDER_EVIDENCE not in reach.held:
        return f"You may not do this anywhere: {Action.ORDER_EVIDENCE}."
    where = order_found(name=order.reference).context
    may, why = reach.answer(action=Action.ORDER_EVIDENCE, context=where)
    return "" if may else f"You may not do this here ({Action.ORDER_EVIDENCE}): {why}"


def _may_be_done(request: HttpRequest, order: Order, standing: Standing) -> MayBeDone:
    found = MayBeDone()
    held, reach = held_here(request), reach_here(request)
    of_order = operations.possible(subject=f"order:{order.reference}", held=held, reach=reach)
    found.order = [
        _doing(one, f"order:{order.reference}", short=False)
        for one in of_order
        if not (order.is_final and one.action in _OF_RUNNING)
    ]
    if not kept_from(request, order):
        found.order.append(
            Doing(
                label="Take the evidence",
                help="Everything about it in one file, with proof that nobody has changed it.",
                address=reverse("admin:oms_order_evidence", args=[order.pk]),
            )
        )

    def among(kind: str, pks: Sequence[int]) -> Mapping[int, list[operations.Repair]]:
        return operations.possible_among(about=kind, pks=pks, held=held, reach=reach)

    def beside(kind: str, pks: Sequence[int]) -> list[list[Doing]]:
        known = among(kind, pks)
        return [[_doing(one, f"{kind}:{pk}") for one in known[pk]] for pk in pks]

    repairs = among("task", [one.task_id for one in standing.troubles])
    for one in standing.troubles:
        doings = [_doing(r, f"task:{one.task_id}") for r in _of_task(one, repairs[one.task_id])]
        found.troubles.append((one, doings))
    cases, manual = standing.cases, standing.manual
    found.cases = list(zip(cases, beside("case", [one.case.pk for one in cases]), strict=True))
    found.manual = list(
        zip(manual, beside("manual", [one.manual.pk for one in manual]), strict=True)
    )
    # Each hold is found by itself: what it is on may be anything.
    few = standing.holds[:_HOLDS]
    found.holds = list(zip(few, beside("hold", [one.pk for one in few]), strict=True))
    found.holds += [(one, []) for one in standing.holds[_HOLDS:]]
    found.fitting = _fitting(found, request, standing)[:_FITTING]
    return found


def _of_task(reason: Reason, repairs: Iterable[operations.Repair]) -> Sequence[operations.Repair]:
    wanted = _OF_DOUBTFUL if reason.is_in_doubt else _OF_FAILED
    known = {one.action: one for one in repairs}
    return [known[action] for action in wanted if action in known]


def _doing(repair: operations.Repair, subject: str, *, short: bool = True) -> Doing:
    address = operate_address(repair, subject)
    if repair.action is Action.MANUAL_DECIDE:
        address = reverse("admin:fulfillment_manualtask_decide", args=[subject.partition(":")[2]])
    label = _LABELS.get(repair.action) if short else None
    return Doing(label=label or title_of(repair), help=help_of(repair), address=address)


def _fitting(found: MayBeDone, request: HttpRequest, standing: Standing) -> list[Doing]:
    """What helps with what it waits for, the root of it first."""
    chosen: list[Doing] = []
    chain = standing.why.chain
    root = chain[-1].wait if chain else None
    if root is not None and root.cause is Cause.PAUSED and root.target:
        resume = operations.possible(
            subject=f"target:{root.target}",
            held=held_here(request) & {Action.TARGET_RESUME},
            reach=reach_here(request),
        )
        chosen += [_about(_doing(one, f"target:{root.target}"), root.target) for one in resume]
    for shown, doings in found.manual:
        own = [one for one in doings if one.label in _DECIDING]
        chosen += [_about(one, shown.manual.title) for one in own[:1]]
    rows = sorted(found.troubles, key=lambda row: root is None or row[0].task_id != root.task_id)
    for reason, doings in rows:
        if reason.goes_on:
            continue
        chosen += [_about(one, reason.what) for one in doings[:_OF_ONE_TASK]]
    for hold, doings in found.holds:
        chosen += [_about(one, f"hold {hold.pk}") for one in doings]
    return list({one.address: one for one in chosen}.values())


def _about(doing: Doing, about: str) -> Doing:
    return Doing(label=doing.label, help=doing.help, address=doing.address, about=about)
