"""The history of an order with what the desk knows of it: milestones, and what customers were told.

The rest is `fulfillment.queries.history`; how it is read, `timeline` beside that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fulfillment.queries import timeline
from fulfillment.queries.history import SOURCES as ENGINE_SOURCES
from fulfillment.queries.timeline import Entry, Page, Source, Wanted
from oms.models import Milestone, Notification, NotificationState, Order

_ORDER = """
oms_order o JOIN {table} m ON m.order_id = o.id WHERE o.fulfillment_id = %(fulfillment)s
"""


def history(*, order: Order, wanted: Wanted) -> Page:
    """One page of everything that has happened; read the order with its fulfillment."""
    return timeline.page(
        fulfillment_id=order.fulfillment_id,
        reference=order.reference,
        correlation_id=order.fulfillment.correlation_id,
        wanted=wanted,
        sources=SOURCES,
    )


def _milestones(pks: Collection[int]) -> Iterator[Entry]:
    for row in Milestone.objects.filter(pk__in=pks):
        yield Entry(
            at=row.reached_at,
            kind="milestone",
            table="milestone",
            pk=row.pk,
            what="milestone reached",
            text=str(row),
            ids=(("milestone", row.name),),
        )


def _messages(pks: Collection[int]) -> Iterator[Entry]:
    for row in Notification.objects.filter(pk__in=pks):
        yield Entry(
            at=row.created_at,
            kind="message",
            table="message",
            pk=row.pk,
            what=f"told to the customer by {row.channel}",
            entity="notification",
            after=row.state,
            text=f"{row.subject}. {row.reason}".strip() if row.reason else row.subject,
            details={"to": row.recipient, "occasion": row.occasion, "text": row.body},
            is_trouble=row.state == NotificationState.FAILED,
        )


SOURCES = (
    *ENGINE_SOURCES,
    Source(
        kind="milestone",
        words="Milestone",
        table="milestone",
        rank=4,
        at="m.reached_at",
        pk="m.id",
        rows=_ORDER.format(table="oms_milestone"),
        load=_milestones,
    ),
    Source(
        kind="message",
        words="Told to the customer",
        table="message",
        rank=8,
        at="m.created_at",
        pk="m.id",
        rows=_ORDER.format(table="oms_notification"),
        trouble="m.state = 'FAILED'",
        load=_messages,
    ),
)
