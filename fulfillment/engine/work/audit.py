"""Checking an audit trail: every row there, in its place, as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fulfillment.engine.work import chain
from fulfillment.models import Fulfillment, Transition


def verify(*, fulfillment_id: int) -> list[str]:
    """What is wrong with the audit trail of one fulfillment; an empty list when nothing is.

    Raises Fulfillment.DoesNotExist. Rows that are cut off together with the head are only
    found by comparing with the heads that were sealed (`fulfillment.audit`).
    """
    # The head first: rows that are added while we read are then simply not looked at.
    fulfillment = Fulfillment.objects.get(pk=fulfillment_id)
    rows = Transition.objects.filter(
        fulfillment_id=fulfillment_id, sequence__lte=fulfillment.audit_sequence
    ).order_by("sequence")
    return breaks(
        rows=rows.iterator(), length=fulfillment.audit_sequence, head=fulfillment.audit_head
    )


def breaks(*, rows: Iterable[Any], length: int, head: str) -> list[str]:
    """Every place at which a chain of `length` rows that ends in `head` does not hold. Pure.

    `rows` have the fields of `Transition`, and come in the order of their sequence. Each is checked
    against the stored hash before it, so one changed row is reported once and not as the end of all
    trust behind it.
    """
    found: list[str] = []
    previous, expected = "", 1
    for row in rows:
        if row.sequence > length:
            found.append(f"Row {row.sequence} was added behind the last one, which is {length}.")
            break
        if row.sequence != expected:
            found.append(f"Rows {expected} to {row.sequence - 1} are missing.")
        elif row.hash != _hash_of(row, previous):
            found.append(f"Row {row.sequence} is not as it was written, or the row before it.")
        previous, expected = row.hash, row.sequence + 1
    if expected <= length:
        found.append(f"Rows {expected} to {length} are missing.")
    elif previous != head:
        found.append(f"The head does not belong to row {length}, the last one.")
    return found


def _hash_of(row: Any, previous: str) -> str:
    return chain.link(
        previous=previous,
        sequence=row.sequence,
        entity=row.entity,
        entity_id=row.entity_id,
        name=row.name,
        from_state=row.from_state,
        to_state=row.to_state,
        actor=row.actor,
        cause=row.cause,
        details=row.details,
        occurred_at=row.occurred_at,
    )
