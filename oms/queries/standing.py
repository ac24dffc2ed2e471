"""What an order is and how it stands now, in a few words, before something is done to it."""

from __future__ import annotations

from fulfillment.queries.standing import Standing, moment, said
from fulfillment.queries.why import why
from oms.models import Order
from oms.queries.orders import newest_plan, waits_as_a_whole

_NAMED = 6


def order_standing(name: str) -> Standing | None:
    """Of an order by its reference, or of one item of it (`O-17/2`)."""
    order = Order.objects.filter(reference=name.partition("/")[0]).first()
    if order is None:
        return None
    plan = newest_plan(order)
    items = [f"{one.quantity} × {one.offering}" for one in order.items.all()[: _NAMED + 1]]
    more = " and more" if len(items) > _NAMED else ""
    whole = waits_as_a_whole(order=order, plan=plan)
    waits = whole[0].reason if whole else why(fulfillment_id=order.fulfillment_id).sentence
    done = f"{plan.mandatory_total - plan.mandatory_open} of {plan.mandatory_total}" if plan else ""
    return Standing(
        title=f"Order {order.reference} of {order.customer_name or order.customer_id}",
        entity="order",
        state=str(order.state),
        order_reference=order.reference,
        facts=said(
            ("Ordered", ", ".join(items[:_NAMED]) + more),
            ("Done", f"{done} of the tasks that it needs" if done else ""),
            ("Waits", waits),
            ("Promised for", moment(order.promised_at)),
        ),
    )
