"""The reports of what is so now: what leaks, and what is stuck; with what was found day by day."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import QuerySet

from fulfillment.models import CaseCategory, Plan
from fulfillment.queries.workload import IS_STUCK
from oms import leaks
from oms.figures import reading
from oms.figures.reading import Span
from oms.leaks import Gap
from oms.models import Leak, Measure
from oms.reports.report import Headline, Report
from oms.reports.tables import (
    SHOWN,
    Cells,
    Column,
    Kind,
    Row,
    Table,
    Told,
    by_time,
    number,
)

PRICED = 1_000
"""Leaks whose worth a page adds up; a file has all of them."""
COUNTED = 10_000
"""Stuck orders that a page counts."""
_AGES = (
    ("up to an hour", timedelta(hours=1)),
    ("1 to 4 hours", timedelta(hours=4)),
    ("4 to 24 hours", timedelta(days=1)),
    ("1 to 7 days", timedelta(days=7)),
    ("more than 7 days", timedelta.max),
)


@dataclass(frozen=True, kw_only=True)
class Leakage(Report):
    leak: Leak
    head_words: str
    is_of_now: bool = True

    def tables(self, span: Span, *, whole: bool = False) -> list[Table]:
        found = leaks.gaps(in_time=False, leak=self.leak, at_most=None if whole else PRICED)
        there = len(found) if len(found) < PRICED else leaks.how_many(leak=self.leak)
        note = ""
        if there > len(found):
            note = f"Of the {len(found)} oldest; there are {there}. The file has all of them."
        return [
            _at_stake(found, note=note),
            _orders(found, there=there),
            _found(span, action=self.leak.value.lower()),
        ]

    def headline(self, cells: Cells) -> Headline:
        there = leaks.how_many(leak=self.leak)
        return Headline(value=there, kind=Kind.COUNT, words=self.head_words)


def _at_stake(found: Iterable[Gap], *, note: str) -> Table:
    sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    lines: Counter[str] = Counter()
    for gap in found:
        for (currency, kind), amount in gap.worth.items():
            sums[currency][kind] += amount
        lines.update({currency for currency, _ in gap.worth} or {""})
    return Table(
        name="at-stake",
        title="Money at stake",
        columns=(
            Column(name="currency", words="Currency", kind=Kind.TEXT),
            Column(name="items", words="Order lines"),
            Column(name="recurring", words="Each period", kind=Kind.MONEY),
            Column(name="once", words="Once", kind=Kind.MONEY),
        ),
        rows=[
            Row(
                values=(
                    currency or "no price",
                    lines[currency],
                    sums[currency]["recurring"],
                    sums[currency]["once"],
                )
            )
            for currency in sorted(lines)
        ],
        note=note,
        empty="Nothing leaks: what customers have is billed, and what is billed is there.",
    )


def _orders(found: list[Gap], *, there: int) -> Table:
    return Table(
        name="orders",
        title="Orders",
        columns=(
            Column(name="order", words="Order", kind=Kind.TEXT),
            Column(name="item", words="Line", kind=Kind.TEXT),
            Column(name="offering", words="Offering", kind=Kind.TEXT),
            Column(name="customer", words="Customer", kind=Kind.TEXT),
            Column(name="since", words="Since", kind=Kind.WHEN),
            Column(name="worth", words="Worth", kind=Kind.TEXT),
            Column(name="case", words="Open case", kind=Kind.TEXT),
        ),
        rows=[
            Row(
                values=(
                    gap.order.reference,
                    gap.item.item_id,
                    gap.item.offering,
                    gap.order.customer_id,
                    gap.since,
                    leaks.in_words(gap.worth) or "no price",
                    "" if gap.case_id is None else f"case:{gap.case_id}",
                ),
                about=f"order:{gap.order.reference}",
            )
            for gap in found
        ],
        note=f"The oldest of {there}." if there > SHOWN else "",
        empty="No order.",
    )


@dataclass(frozen=True, kw_only=True)
class Stuck(Report):
    is_of_now: bool = True

    def tables(self, span: Span, *, whole: bool = False) -> list[Table]:
        now = reading.now()
        rows = _stuck().prefetch_related("fulfillment").defer("context")
        plans = list(rows.order_by("stuck_at")[: None if whole else SHOWN])
        return [
            self._by_age(now),
            Table(
                name="orders",
                title="Orders",
                columns=(
                    Column(name="order", words="Order", kind=Kind.TEXT),
                    Column(name="since", words="Since", kind=Kind.WHEN),
                    Column(name="stuck_seconds", words="For", kind=Kind.SECONDS),
                    Column(name="why", words="Why", kind=Kind.TEXT),
                ),
                rows=[
                    Row(
                        values=(
                            plan.fulfillment.order_reference,
                            plan.stuck_at,
                            (now - plan.stuck_at).total_seconds() if plan.stuck_at else None,
                            plan.stuck_reason,
                        ),
                        about=f"order:{plan.fulfillment.order_reference}",
                    )
                    for plan in plans
                ],
                note=f"The {SHOWN} that have been stuck longest." if len(plans) == SHOWN else "",
                empty="No order is stuck.",
            ),
            _found(span, outcome=CaseCategory.STUCK),
        ]

    def headline(self, cells: Cells) -> Headline:
        there = _stuck().order_by("stuck_at")[:COUNTED].count()
        words = "orders are stuck now" if there < COUNTED else "orders or more are stuck now"
        return Headline(value=there, kind=Kind.COUNT, words=words)

    def _by_age(self, now: datetime) -> Table:
        since = _stuck().order_by("stuck_at").values_list("stuck_at", flat=True)[:COUNTED]
        counts: Counter[str] = Counter()
        for at in since:
            if at is not None:
                counts[next(words for words, limit in _AGES if now - at <= limit)] += 1
        there = counts.total()
        return Table(
            name="by-age",
            title="Stuck now, by age",
            columns=(
                Column(name="stuck_for", words="Stuck for", kind=Kind.TEXT),
                Column(name="orders", words="Orders"),
            ),
            rows=[Row(values=(words, counts[words])) for words, _ in _AGES] if there else [],
            total=("", there),
            note=f"The oldest {COUNTED:,}." if there == COUNTED else "",
            empty="No order is stuck.",
        )


def _found(span: Span, **which: str) -> Table:
    """How many cases of this were opened, step by step."""
    steps = reading.by_step([Measure.CASES], span, **which)
    cases = Told(name="found", words="Cases found", of=number(Measure.CASES))
    return by_time(steps, step=span.step, columns=[cases], plotted=[cases.name])


def _stuck() -> QuerySet[Plan]:
    return Plan.objects.filter(IS_STUCK)


_LEAK_COUNTED = (
    "Shows what is so now, once it has taken longer than its product allows; a case is opened "
    "then. It goes from here as soon as both sides agree.",
    "Worth is what the line and what is nested in it are sold for: each period, and once.",
    "Cases found: those that were opened about it in this time.",
)
UNBILLED = Leakage(
    name="unbilled",
    title="Active without billing",
    told="What customers use and nobody charges them for: revenue that is lost each day.",
    counted=_LEAK_COUNTED,
    leak=Leak.ACTIVE_WITHOUT_BILLING,
    head_words="order lines are active, and not billed in time",
)
UNSERVED = Leakage(
    name="unserved",
    title="Billing without service",
    told="What customers are charged for and do not have: complaints, and money to give back.",
    counted=_LEAK_COUNTED,
    leak=Leak.BILLED_WITHOUT_SERVICE,
    head_words="order lines are billed, and not active in time",
)
STUCK = Stuck(
    name="stuck",
    title="Stuck orders",
    told="Which orders do not move and wait for somebody, and for how long.",
    counted=(
        "Shows what is so now: plans in which nothing can move without help, or has moved for "
        "longer than their workflow allows.",
        "Cases found: those that the detector opened about stuck orders in this time.",
    ),
)
