"""What orders make of the installed base (reference §27); everything set-based, in the unit.

At acceptance an item only announces what it will do. The asset itself changes when the item's
activation is reached, and never before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg

from fulfillment.engine.store.database import Row, arrays
from oms.asset_history import FIELDS, Values, without

Places = Collection[tuple[int, int]]
"""(order id, position of the item) pairs."""

_EXPECT = """
INSERT INTO oms_pendingasset (item_id, order_id, position, client_id, asset_id, customer_id,
    change, offering, quantity, characteristics, place, expected_state, follows, since)
SELECT i.id, o.id, i.position, o.client_id,
    CASE WHEN i.action = 'add' THEN o.reference || '-' || i.position ELSE i.asset END,
    o.customer_id, i.action, i.offering, i.quantity, i.characteristics, i.place,
    CASE WHEN i.action = 'disconnect' THEN 'INACTIVE' ELSE 'ACTIVE' END,
    CASE WHEN NOT EXISTS (
        SELECT 1 FROM unnest(%s::bigint[], %s::int[]) AS v(order_id, position)
        WHERE v.order_id = i.order_id AND v.position = i.position
    ) THEN coalesce((
        SELECT around.position FROM oms_orderitem around WHERE around.id = i.parent_id), 0)
    END,
    %s
FROM oms_orderitem i JOIN oms_order o ON o.id = i.order_id
WHERE i.order_id = ANY(%s::bigint[]) AND i.action <> 'no_change'
  AND (i.action = 'add' OR i.asset <> '')
  AND (%s::int[] IS NULL OR i.position = ANY(%s::int[]))
ON CONFLICT DO NOTHING
"""
_EXPECT_NO_MORE = """
DELETE FROM oms_pendingasset WHERE order_id = %s AND position = ANY(%s::int[])
"""
# Items that provide nothing, with the nested lines that come along with them.
_EXPECT_NOTHING = """
WITH RECURSIVE nothing AS (
    SELECT i.id FROM oms_orderitem i
    JOIN unnest(%s::bigint[], %s::int[]) AS v(order_id, position)
      ON v.order_id = i.order_id AND v.position = i.position
    UNION
    SELECT i.id FROM nothing n
    JOIN oms_orderitem i ON i.parent_id = n.id
    JOIN oms_pendingasset p ON p.item_id = i.id AND p.follows IS NOT NULL
)
DELETE FROM oms_pendingasset WHERE item_id IN (SELECT id FROM nothing)
"""
_EXPECTED = """
SELECT id, order_id, position, follows FROM oms_pendingasset WHERE order_id = ANY(%s::bigint[])
"""
_TAKE = """
DELETE FROM oms_pendingasset WHERE id = ANY(%s::bigint[])
RETURNING client_id, asset_id, customer_id, offering, quantity, characteristics, place,
    expected_state, order_id, position,
    CASE WHEN change = 'add' THEN 'INACTIVE' ELSE 'ACTIVE' END, id
"""
# Who disconnects says nothing about the rest, and who modifies says what is new. How it was before
# is kept as long as an order that has changed it may still be undone, and of what came after.
_REALISE = """
INSERT INTO oms_asset AS a (client_id, asset_id, customer_id, offering, quantity, characteristics,
    place, state, order_id, since, changed_at, before)
SELECT client_id, asset_id, customer_id, offering, quantity, characteristics, place, state,
    order_id, %s, %s, jsonb_build_array(
        jsonb_build_object('order', order_id, 'position', position, 'state', state_before))
FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::int[], %s::jsonb[], %s::jsonb[],
    %s::text[], %s::bigint[], %s::int[], %s::text[]) AS v(client_id, asset_id, customer_id,
    offering, quantity, characteristics, place, state, order_id, position, state_before)
ON CONFLICT (client_id, asset_id) DO UPDATE SET
    offering = CASE WHEN EXCLUDED.state = 'ACTIVE' THEN EXCLUDED.offering ELSE a.offering END,
    quantity = CASE WHEN EXCLUDED.state = 'ACTIVE' THEN EXCLUDED.quantity ELSE a.quantity END,
    characteristics = a.characteristics || EXCLUDED.characteristics,
    place = CASE WHEN EXCLUDED.place = '{}' THEN a.place ELSE EXCLUDED.place END,
    state = EXCLUDED.state,
    since = CASE WHEN a.state = EXCLUDED.state THEN a.since ELSE EXCLUDED.since END,
    order_id = EXCLUDED.order_id,
    changed_at = EXCLUDED.changed_at,
    before = (
        SELECT coalesce(jsonb_agg(change ORDER BY number), '[]') FROM (
            SELECT change, number, bool_or(o.finished_at IS NULL) OVER (ORDER BY number) AS needed
            FROM jsonb_array_elements(a.before) WITH ORDINALITY AS b(change, number)
            LEFT JOIN oms_order o ON o.id = (change ->> 'order')::bigint
        ) known WHERE needed
    ) || jsonb_build_array(EXCLUDED.before -> 0 || jsonb_build_object('state', a.state,
        'offering', a.offering, 'quantity', a.quantity, 'characteristics', a.characteristics,
        'place', a.place))
WHERE a.customer_id = EXCLUDED.customer_id
"""
_WITH_NESTED = """
WITH RECURSIVE gone AS (
    SELECT i.id, i.order_id, i.position FROM oms_orderitem i
    JOIN unnest(%s::bigint[], %s::int[]) AS v(order_id, position)
      ON v.order_id = i.order_id AND v.position = i.position
    UNION
    SELECT i.id, i.order_id, i.position FROM gone g JOIN oms_orderitem i ON i.parent_id = g.id
    WHERE NOT EXISTS (
        SELECT 1 FROM unnest(%s::bigint[], %s::int[]) AS v(order_id, position)
        WHERE v.order_id = i.order_id AND v.position = i.position
    )
)
SELECT order_id, position FROM gone
"""
_CHANGED_BY = """
SELECT a.id, w.order_id, w.position, a.before, a.state, a.offering, a.quantity, a.characteristics,
    a.place
FROM unnest(%s::bigint[], %s::int[]) AS w(order_id, position)
JOIN oms_order o ON o.id = w.order_id
JOIN oms_orderitem i ON i.order_id = o.id AND i.position = w.position
JOIN oms_asset a ON a.client_id = o.client_id AND a.customer_id = o.customer_id
 AND a.asset_id = CASE WHEN i.action = 'add' THEN o.reference || '-' || i.position ELSE i.asset END
ORDER BY a.id, w.order_id DESC, w.position DESC FOR NO KEY UPDATE OF a
"""
_PUT_BACK = """
UPDATE oms_asset a SET before = v.before, state = v.state, offering = v.offering,
    quantity = v.quantity, characteristics = v.characteristics, place = v.place,
    since = CASE WHEN a.state = v.state THEN a.since ELSE %s END, order_id = v.order_id,
    changed_at = %s
FROM unnest(%s::bigint[], %s::bigint[], %s::jsonb[], %s::text[], %s::text[], %s::int[], %s::jsonb[],
    %s::jsonb[]) AS v(id, order_id, before, state, offering, quantity, characteristics, place)
WHERE a.id = v.id
"""
_FORGET = "DELETE FROM oms_pendingasset WHERE order_id = ANY(%s::bigint[])"
_OWNERS = """
SELECT asset_id, customer_id FROM oms_asset
WHERE client_id = %s AND asset_id = ANY(%s::text[])
"""


def expect(
    raw: psycopg.Cursor[Row],
    *,
    order_ids: Collection[int],
    planned: Places,
    providing: Places,
    now: datetime,
    positions: Collection[int] | None = None,
) -> None:
    """Note what the items of accepted orders will make of assets, or those at `positions` alone.

    `planned` are the items that have tasks of their own, `providing` those of them that provide
    an asset.
    """
    if not providing:
        return
    only = None if positions is None else sorted(positions)
    raw.execute(_EXPECT, [*arrays(sorted(planned)), now, list(order_ids), only, only], prepare=True)
    nothing = sorted(set(planned).difference(providing))
    if nothing:
        raw.execute(_EXPECT_NOTHING, arrays(nothing), prepare=True)


def revise(
    raw: psycopg.Cursor[Row],
    *,
    order_id: int,
    gone: Collection[int],
    anew: Collection[int],
    planned: Places,
    providing: Places,
    now: datetime,
) -> None:
    """The order is another one now: of the items at `gone` nothing is expected any more, and of
    those at `anew` what they ask for now, whether it has been real before or not."""
    raw.execute(_EXPECT_NO_MORE, [order_id, sorted({*gone, *anew})], prepare=True)
    if anew:
        expect(
            raw,
            order_ids=[order_id],
            planned=planned,
            providing=providing,
            now=now,
            positions=anew,
        )


def realise(
    raw: psycopg.Cursor[Row], *, active: Places, complete: Collection[int], now: datetime
) -> None:
    """What was expected of these items is real now; `complete` are orders that are done.

    An item that has become real before is left alone.
    """
    orders = {order_id for order_id, _ in active}.union(complete)
    if not orders:
        return
    raw.execute(_EXPECTED, [sorted(orders)], prepare=True)
    real = _real(raw.fetchall(), set(active), set(complete))
    if not real:
        return
    raw.execute(_TAKE, [real], prepare=True)
    for batch in _rounds(raw.fetchall()):
        raw.execute(_REALISE, [now, now, *arrays([row[:-1] for row in batch])], prepare=True)


def undo(raw: psycopg.Cursor[Row], *, undone: Places, planned: Places, now: datetime) -> None:
    """What these items made of assets is taken back; what others have changed since stays.

    A nested line that is not `planned`, so without tasks of its own, goes with the line around it.
    """
    if not undone:
        return
    raw.execute(
        _WITH_NESTED, [*arrays(sorted(undone)), *arrays(sorted({*planned, *undone}))], prepare=True
    )
    raw.execute(_CHANGED_BY, arrays(raw.fetchall()), prepare=True)
    assets: dict[int, tuple[int, Values, list[Values]]] = {}
    for pk, order_id, position, before, *values in raw.fetchall():
        read = {name: _read(name, value) for name, value in zip(FIELDS, values, strict=True)}
        _, asset, changes = assets.get(pk, (order_id, read, json.loads(before)))
        assets[pk] = (
            order_id,
            *without(asset=asset, changes=changes, order_id=order_id, position=position),
        )
    rows = [
        (pk, order_id, json.dumps(changes), *(_written(name, asset[name]) for name in FIELDS))
        for pk, (order_id, asset, changes) in sorted(assets.items())
    ]
    if rows:
        raw.execute(_PUT_BACK, [now, now, *arrays(rows)], prepare=True)


def give_up(raw: psycopg.Cursor[Row], *, order_ids: Collection[int]) -> None:
    """The orders have ended; what has not become real is expected no longer."""
    if order_ids:
        raw.execute(_FORGET, [list(order_ids)], prepare=True)


def owners(raw: psycopg.Cursor[Row], *, client_id: int, asset_ids: Iterable[str]) -> dict[str, str]:
    """The customer of each of these assets that is known."""
    wanted = sorted({asset_id for asset_id in asset_ids if asset_id})
    if not wanted:
        return {}
    raw.execute(_OWNERS, [client_id, wanted], prepare=True)
    return dict(raw.fetchall())


def _real(rows: Sequence[Row], active: set[tuple[int, int]], complete: set[int]) -> list[int]:
    """The ids of the expected changes that are real now.

    A nested line without tasks of its own is there together with the line around it, or with
    the order if nothing is expected of that. Lines stand behind those around them.
    """
    expected = {(order_id, position) for _, order_id, position, _ in rows}
    found = []
    for row_id, order_id, position, follows in sorted(rows, key=lambda row: row[1:3]):
        if follows is not None:
            around = (order_id, follows)
            if around in active or (order_id in complete and around not in expected):
                active.add((order_id, position))
        if (order_id, position) in active:
            found.append(row_id)
    return found


def _rounds(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """Batches in which no asset comes twice, each in the order in which everybody writes them."""
    rounds: list[dict[tuple[int, str], Row]] = []
    for row in sorted(rows, key=lambda row: (row[0], row[1], row[-1])):
        for one in rounds:
            if one.setdefault((row[0], row[1]), row) is row:
                break
        else:
            rounds.append({(row[0], row[1]): row})
    return [list(one.values()) for one in rounds]


_DOCUMENTS = frozenset({"characteristics", "place"})


def _read(name: str, value: Any) -> Any:
    return json.loads(value) if name in _DOCUMENTS else value


def _written(name: str, value: Any) -> Any:
    return json.dumps(value) if name in _DOCUMENTS else value
