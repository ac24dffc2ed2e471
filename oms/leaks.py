"""Reading what leaks: items of which only the service or only the billing is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Q
from django.db.models.functions import Least

from fulfillment.models import IS_UNRESOLVED, FalloutCase, Plan
from fulfillment.queries import fulfillments
from oms import terms
from oms.models import BillingMatch, Leak, Order, OrderItem
from oms.states import ItemAction

Sums = Mapping[tuple[str, str], Decimal]
"""By currency and by "recurring" or "once"; zero is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """One item that is active and not billed, or billed and not active."""

    order: Order
    item: OrderItem
    leak: Leak
    since: datetime
    due_at: datetime | None
    """Until then it may be so; None when a case has been opened about it."""
    case_id: int | None
    """The case, while it is open."""
    worth: Sums


def subject(item_id: int, leak: Leak) -> str:
    """What the case of a leak is about."""
    return f"leakage:{item_id}:{leak.value}"


def gaps(
    *,
    order: Order | None = None,
    in_time: bool = True,
    leak: Leak | None = None,
    at_most: int | None = None,
) -> list[Gap]:
    """Of one order or of all, the oldest first; a fixed number of queries.

    Without `in_time` only those that have taken longer than their product allows.
    """
    rows = BillingMatch.objects.filter(due_at__isnull=False)
    if order is not None:
        rows = rows.filter(item__order=order)
    if not in_time:
        rows = rows.filter(filed=True)
    if leak is not None:
        rows = rows.filter(_leaks(leak))
    if at_most is not None:
        rows = rows.order_by(Least("service_at", "billed_at"), "item_id")[:at_most]
    matches = {match: leak for match in rows.select_related("item__order") if (leak := match.leak)}
    if not matches:
        return []
    subjects = {subject(match.item_id, leak): match.item_id for match, leak in matches.items()}
    found = FalloutCase.objects.filter(IS_UNRESOLVED, subject__in=subjects)
    cases = {subjects[about]: pk for about, pk in found.values_list("subject", "pk")}
    plans = fulfillments.newest_plans(
        fulfillment_ids={match.item.order.fulfillment_id for match in matches}
    )
    sums = worth_of(matches, plans=plans)
    return sorted(
        (
            Gap(
                order=match.item.order,
                item=match.item,
                leak=leak,
                since=match.since,
                due_at=None if match.filed else match.due_at,
                case_id=cases.get(match.item_id),
                worth=sums[match.item_id],
            )
            for match, leak in matches.items()
        ),
        key=lambda gap: (gap.since, gap.item.pk),
    )


def how_many(*, leak: Leak) -> int:
    """Items that have leaked like this for longer than their product allows; one query."""
    rows = BillingMatch.objects.filter(_leaks(leak), due_at__isnull=False, filed=True)
    return rows.count()


def worth_of(matches: Iterable[BillingMatch], *, plans: Mapping[int, Plan]) -> dict[int, Sums]:
    """By item what it is sold for, with the nested lines that have no tasks of their own.

    `plans` are the newest ones by fulfillment.
    """
    items = [match.item for match in matches]
    inside: dict[int | None, list[OrderItem]] = defaultdict(list)
    for one in OrderItem.objects.filter(order__in={item.order_id for item in items}):
        inside[one.parent_id].append(one)
    return {
        item.pk: _sums(item, inside, _planned(plans[item.order.fulfillment_id])) for item in items
    }


def in_words(sums: Sums) -> str:
    """`49.00 EUR recurring, 10.00 EUR once`; empty without a price."""
    return ", ".join(f"{amount:.2f} {currency} {kind}" for (currency, kind), amount in sums.items())


def total(found: Iterable[Sums]) -> Sums:
    """Of several together."""
    sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for one in found:
        for name, amount in one.items():
            sums[name] += amount
    return dict(sums)


def _leaks(leak: Leak) -> Q:
    """`BillingMatch.leak` as the database tells it."""
    is_active = Q(service_at__isnull=False, billed_at__isnull=True)
    is_billed = Q(service_at__isnull=True, billed_at__isnull=False)
    ends = Q(item__action=ItemAction.DISCONNECT)
    if leak is Leak.ACTIVE_WITHOUT_BILLING:
        return (is_active & ~ends) | (is_billed & ends)
    return (is_billed & ~ends) | (is_active & ends)


def _planned(plan: Plan) -> Collection[int]:
    return terms.of_graph(plan.graph_id).planned


def _sums(
    item: OrderItem, inside: Mapping[int | None, list[OrderItem]], planned: Collection[int]
) -> Sums:
    found = []
    ahead = [item]
    while ahead:
        one = ahead.pop()
        prices = {"recurring": one.recurring_price, "once": one.one_off_price}
        found.append(
            {(one.currency, kind): price * one.quantity for kind, price in prices.items() if price}
        )
        ahead += [inner for inner in inside.get(one.pk, ()) if inner.position not in planned]
    return total(found)
