"""What cancelling an order costs and undoes, as tables that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fulfillment.operations.showing import NOTHING, Mark, Table, amount, fates_table_of
from oms.changes.quoting import Verdict

_VERDICTS: Mapping[Verdict, Mark] = {
    Verdict.FREE: Mark(words="can be undone, at no cost", sign="✓", tone="done"),
    Verdict.COST: Mark(words="can be undone, at a cost", sign="¤", tone="trouble"),
    Verdict.PAST_POINT_OF_NO_RETURN: Mark(words="can't be undone", sign="✗", tone="failed"),
}
_DIRECTIONS: Mapping[str, str] = {
    "cost": "The customer pays",
    "refund": "The customer gets back",
}
_ITEMS_AT_MOST = 100


def quote_tables(quote: Mapping[str, Any]) -> tuple[Table, ...]:
    """By item, by task, in money, and what the customer is told; of a stored quote."""
    return tuple(_tables(quote))


def money_table(charges: Sequence[Mapping[str, Any]], *, tells: tuple[str, ...] = ()) -> Table:
    """What is paid and what comes back, one by one."""
    return Table(
        title="What it costs",
        columns=("", "Amount", "For", "Because"),
        rows=tuple(
            (
                _DIRECTIONS[one["direction"]],
                amount(one["amount"], one["currency"]),
                one["task"],
                one["reason"] or NOTHING,
            )
            for one in charges
        ),
        told="" if charges else "It costs the customer nothing, and nothing is paid back.",
        tells=tells,
    )


def _tables(quote: Mapping[str, Any]) -> Iterator[Table]:
    yield money_table(quote["charges"], tells=("quote",))
    items = quote["items"]
    more = len(items) - _ITEMS_AT_MOST
    yield Table(
        title="What becomes of each item",
        columns=("Item", "It …", "Of its tasks"),
        rows=tuple(
            (
                f"{one['item_id']}: {one['offering']}",
                _VERDICTS[Verdict(one["verdict"])],
                _counted(one),
            )
            for one in items[:_ITEMS_AT_MOST]
        ),
        told=f"{more} more are not shown." if more > 0 else "",
    )
    yield fates_table_of(tasks=quote["tasks"], tells=())
    reached = [one["title"] or one["name"] for one in quote["milestones"]]
    message = quote["message"]
    rows = [("Knows already", ", ".join(reached) or "nothing of what was reached")]
    if message is None:
        rows.append(("Is told", "nothing: the workflow has no message for it"))
    else:
        rows += [
            ("Is told", message["subject"]),
            ("By", ", ".join(message["channels"])),
            ("In these words", message["text"]),
        ]
    yield Table(title="What the customer knows, and is told", columns=(), rows=tuple(rows))


def _counted(item: Mapping[str, Any]) -> str:
    counts = (
        (len(item["undone"]), "undone"),
        (len(item["stays"]), "left as they are"),
        (len(item["withdrawn"]), "not done any more"),
    )
    return ", ".join(f"{count} {words}" for count, words in counts if count) or NOTHING
