"""The seals: each made with a key that we have, none missing, and what they have seen is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from fulfillment.audit import keys
from fulfillment.audit.findings import Finding, Progress
from fulfillment.audit.logs import APPROVAL, APPROVAL_COLUMNS, LOGS, Log, above, digest_of
from fulfillment.audit.sealing import DIGEST, document
from fulfillment.engine.store.database import array, cursor
from fulfillment.models import AuditSeal

_AT_ONCE = 100
"""Seals that are compared with the logs at once."""
_DIGESTS = (
    f"SELECT of_id, {DIGEST} FROM fulfillment_sealedrow WHERE of_id = ANY(%s::bigint[]) "
    "GROUP BY of_id"
)
# Both sides are summed up by the same statement, then as when they were sealed, and as they are.
_DIFFERENT = """
SELECT coalesce(now.number, s.of_id), coalesce(now.row_id, s.row_id), s.sequence, s.digest,
       now.sequence, now.digest
FROM (
    SELECT r.number, summary.* FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[])
        AS r(number, low, high) CROSS JOIN LATERAL ({summary}) summary
) now FULL JOIN (
    SELECT of_id, row_id, sequence, digest FROM fulfillment_sealedrow
    WHERE of_id = ANY(%s::bigint[]) AND kind = '{kind}'
) s ON s.of_id = now.number AND s.row_id = now.row_id
WHERE (now.digest IS DISTINCT FROM s.digest OR now.sequence IS DISTINCT FROM s.sequence) {only}
ORDER BY 1, 2 LIMIT 1000
"""
_APPROVALS = f"""
WITH sealed AS (
    SELECT DISTINCT ON (row_id) row_id, digest FROM fulfillment_sealedrow
    WHERE kind = '{APPROVAL}' ORDER BY row_id, of_id DESC
), later AS (
    SELECT substr(subject, 10) AS row_id FROM fulfillment_operation
    WHERE id > %s AND subject LIKE 'approval:%%'
)
SELECT coalesce(s.row_id, a.id), s.digest IS NOT NULL, a.id IS NOT NULL
FROM (SELECT id, {digest_of(APPROVAL_COLUMNS)} AS digest FROM fulfillment_approval) a
FULL JOIN sealed s ON s.row_id = a.id
WHERE a.digest IS DISTINCT FROM s.digest
  AND (a.id IS NULL OR a.id::text NOT IN (SELECT row_id FROM later))
ORDER BY 1 LIMIT 1000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """One seal, and from where to where it has looked."""

    seal: AuditSeal
    before: Mapping[str, int]


def verify_seals(
    *,
    fulfillment_ids: Sequence[int] | None,
    since: datetime | None,
    expected: tuple[int, str] | None,
    progress: Progress,
) -> Iterator[Finding]:
    """The whole chain of seals; and what those since then, or about these orders, have seen.

    `expected` is the number and the value of a seal that was kept elsewhere.
    """
    known = keys.by_id(settings.OMS_AUDIT_KEYS)
    wanted = None if fulfillment_ids is None else _seals_of(fulfillment_ids)
    previous, before, number = "", dict[str, int](), 0
    last_good: Mapping[str, int] = {}
    while some := _next(number):
        digests = _digests(some)
        spans = []
        for seal in some:
            what = _wrong(seal, known, digests)
            if seal.number != number + 1:
                what = f"The seals {number + 1} to {seal.number - 1} before it are missing."
            elif seal.previous != previous:
                what = what or "It does not follow the seal before it: one of them was changed."
            if what:
                yield Finding(table="fulfillment_auditseal", place=f"seal {seal.number}", what=what)
            elif (since is None or seal.sealed_at >= since) and (
                wanted is None or seal.number in wanted
            ):
                spans.append(_Span(seal=seal, before=before))
            previous, before, number = seal.seal, seal.marks, seal.number
            last_good = seal.marks
            if expected is not None and seal.number == expected[0] and seal.seal != expected[1]:
                yield _not_expected(expected[0])
        for log in LOGS:
            yield from _compared(log, spans, fulfillment_ids)
        progress(f"seal {number}")
    if expected is not None and number < expected[0]:
        yield Finding(
            table="fulfillment_auditseal",
            place=f"seal {number + 1}",
            what=f"The seals {number + 1} to {expected[0]} are missing: they were cut off.",
        )
    if fulfillment_ids is None and since is None:
        yield from _approvals(last_good)


def _next(number: int) -> list[AuditSeal]:
    return list(AuditSeal.objects.filter(number__gt=number).order_by("number")[:_AT_ONCE])


def newest() -> AuditSeal | None:
    """To be kept elsewhere: what has been cut off the end of the seals is found by it alone."""
    return AuditSeal.objects.order_by("-number").first()


def _wrong(
    seal: AuditSeal, known: Mapping[str, str], digests: Mapping[int, tuple[int, str]]
) -> str:
    key = known.get(seal.key_id)
    if key is None:
        return (
            f"It was made with the key {seal.key_id}, which OMS_AUDIT_KEY does not hold. Give "
            "the keys of earlier times as well, behind the one of today."
        )
    if not keys.holds(key=key, document=document(seal), sealed=seal.seal):
        return "It is not as it was made: it was changed, or made without the key."
    if digests.get(seal.number, (0, keys.NOTHING)) != (seal.rows, seal.digest):
        return (
            f"It was made over {seal.rows} rows of fulfillment_sealedrow, and they are others "
            "now: one was changed, added or cut."
        )
    return ""


def _not_expected(number: int) -> Finding:
    return Finding(
        table="fulfillment_auditseal",
        place=f"seal {number}",
        what="It is another one than the one that was kept elsewhere.",
    )


def _digests(some: Sequence[AuditSeal]) -> dict[int, tuple[int, str]]:
    with cursor() as raw:
        raw.execute(_DIGESTS.encode(), [array([seal.number for seal in some])])
        return {number: (rows, digest) for number, rows, digest in raw.fetchall()}


def _seals_of(fulfillment_ids: Sequence[int]) -> set[int]:
    with cursor() as raw:
        raw.execute(
            "SELECT of_id FROM fulfillment_sealedrow WHERE kind IN ('chain', 'commands') "
            "AND row_id = ANY(%s::bigint[])",
            [array(fulfillment_ids)],
        )
        return {number for (number,) in raw.fetchall()}


def _compared(
    log: Log, spans: Sequence[_Span], fulfillment_ids: Sequence[int] | None
) -> Iterator[Finding]:
    of_orders = log.kind in ("chain", "commands")
    if not spans or (fulfillment_ids is not None and not of_orders):
        return
    numbers = array([span.seal.number for span in spans])
    values: list[Any] = [
        numbers,
        array([above(span.before.get(log.kind, 0)) for span in spans]),
        array([span.seal.marks.get(log.kind, 0) for span in spans]),
        numbers,
    ]
    only = ""
    if fulfillment_ids is not None:
        only = "AND coalesce(now.row_id, s.row_id) = ANY(%s::bigint[])"
        values.append(array(fulfillment_ids))
    statement = _DIFFERENT.format(
        summary=log.summary.format(low="r.low", high="r.high"), kind=log.kind, only=only
    )
    by_number = {span.seal.number: span.seal for span in spans}
    told: set[int] = set()
    with cursor() as raw:
        raw.execute(statement.encode(), values)
        different = raw.fetchall()
    for number, row_id, sequence, digest, now, _ in different:
        if row_id not in told:  # The first of an order says where to look.
            told.add(row_id)
            yield _unlike(log, by_number[number], row_id, sequence, digest, now)


def _unlike(
    log: Log,
    seal: AuditSeal,
    row_id: int,
    sequence: int | None,
    digest: str | None,
    now: int | None,
) -> Finding:
    by = f"seal {seal.number} of {seal.sealed_at:%Y-%m-%d %H:%M:%S} UTC"
    if log.kind == "chain":
        place, what = _in_chain(seal, row_id, sequence, digest, by)
    elif log.kind == "commands":
        place = _reference(row_id)
        what = (
            f"{by} has seen {sequence or 0} commands of it, with the numbers "
            f"up to {seal.marks[log.kind]}; there are {now or 0}, or one of them is another."
        )
    else:
        place = f"id {row_id}"
        if now is None:
            what = f"It was cut: {by} has seen it."
        elif sequence is None:
            what = f"It was added later: {by} would have seen it."
        else:
            what = f"It is not as {by} has seen it: it was changed."
    return Finding(table=log.table, place=place, what=what)


def _in_chain(
    seal: AuditSeal, fulfillment_id: int, sequence: int | None, digest: str | None, by: str
) -> tuple[str, str]:
    reference = _reference(fulfillment_id)
    if sequence is None:
        return reference, f"Rows were added to its trail below the numbers that {by} has seen."
    with cursor() as raw:
        raw.execute(
            "SELECT coalesce(max(sequence), 0), max(hash) FILTER (WHERE sequence = %s) "
            "FROM fulfillment_transition WHERE fulfillment_id = %s AND sequence <= %s",
            [sequence, fulfillment_id, sequence],
        )
        row = raw.fetchone()
        assert row is not None
        newest, found = row
        raw.execute(
            "SELECT coalesce(max(s.sequence), 0) FROM fulfillment_sealedrow s "
            "JOIN fulfillment_transition t ON t.fulfillment_id = s.row_id "
            "AND t.sequence = s.sequence AND t.hash = s.digest "
            "WHERE s.kind = 'chain' AND s.row_id = %s AND s.of_id < %s",
            [fulfillment_id, seal.number],
        )
        row = raw.fetchone()
        assert row is not None
        good = row[0]
    if newest < sequence:
        return (
            f"{reference}, row {newest + 1}",
            f"Rows {newest + 1} to {sequence} were cut: {by} has seen row {sequence}.",
        )
    if found != digest:
        return (
            f"{reference}, row {good + 1}",
            f"A row from {good + 1} to {sequence} was written anew, with all the hashes behind "
            f"it: {by} has seen another row {sequence}.",
        )
    return (
        f"{reference}, row {sequence + 1}",
        f"Rows behind row {sequence} have numbers that {by} would have seen: they were added or "
        "numbered anew.",
    )


def _approvals(marks: Mapping[str, int]) -> Iterator[Finding]:
    with cursor() as raw:
        raw.execute(_APPROVALS.encode(), [marks.get("operation", 0)])
        rows = raw.fetchall()
    for approval_id, was_sealed, is_there in rows:
        if not is_there:
            what = "It was cut: a seal has seen it."
        elif was_sealed:
            what = "It is not as it was sealed when it moved last: it was changed."
        else:
            what = "It was added past the product: no operation has asked for it."
        yield Finding(table="fulfillment_approval", place=f"id {approval_id}", what=what)


def _reference(fulfillment_id: int) -> str:
    with cursor() as raw:
        raw.execute(
            "SELECT order_reference FROM fulfillment_fulfillment WHERE id = %s", [fulfillment_id]
        )
        row = raw.fetchone()
    return str(row[0]) if row is not None else f"fulfillment {fulfillment_id}"
