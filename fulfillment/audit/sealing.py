"""Sealing: every minute, what has come since the last seal, with a key the database never sees.

Whoever owns the database can rewrite an order's chain from its first row to its head. They can't
make the seals that have seen it: each is an HMAC over what it has seen and over the seal before.

What a seal covers is final: ids are given before rows are committed, so a seal waits until whoever
could still write below its marks has ended. It looks only at what is new, by the logs' own keys.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import transaction

from fulfillment.audit import keys
from fulfillment.audit.logs import APPROVAL, APPROVALS, LOGS, above
from fulfillment.engine.store.database import cursor
from fulfillment.models import AuditSeal

logger = logging.getLogger(__name__)
Marks = Mapping[str, int]

_NEWEST = " UNION ALL ".join(
    f"SELECT '{log.kind}', coalesce(max(id), 0) FROM {log.table}" for log in LOGS
)
# Who writes to a table locks it until the end of the transaction, and has done so before the
# row gets its id.
_WRITING = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation = ANY(%s::text[]::regclass[]::oid[])
"""
_PAUSES_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(7190413)"
_INTO = (
    "INSERT INTO fulfillment_sealedrow (of_id, kind, row_id, sequence, digest) "
    "SELECT {number}, '{kind}', row_id, sequence, digest FROM ({summary}) summary"
)
DIGEST = (
    "count(*)::int, encode(sha256(convert_to(coalesce(string_agg("
    "kind || ' ' || row_id || ' ' || sequence || ' ' || digest, E'\\n' "
    """ORDER BY kind COLLATE "C", row_id), ''), 'UTF8')), 'hex')"""
)


def seal_new() -> AuditSeal | None:
    """Seal what has come since the last seal; the newest seal made, None when nothing is new.

    Several at once do no harm. What somebody is still writing beside is left to the next time.
    """
    marks = _settled_marks()
    if marks is None:
        logger.warning("audit not sealed: somebody has been writing for long; later")
        return None
    made = None
    while (one := _seal(marks)) is not None:
        made = one
    return made


def document(seal: AuditSeal) -> dict[str, Any]:
    """What the HMAC of a seal is taken over."""
    return {
        "number": seal.number,
        "sealed_at": seal.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "marks": seal.marks,
        "rows": seal.rows,
        "digest": seal.digest,
        "previous": seal.previous,
        "key_id": seal.key_id,
    }


def _settled_marks() -> Marks | None:
    """Up to which id each log is complete; None when somebody does not end."""
    with cursor() as raw:
        raw.execute(_NEWEST)
        marks = dict(raw.fetchall())
        tables = "{" + ",".join(log.table for log in LOGS) + "}"
        raw.execute(_WRITING, [tables])
        writing = set(raw.fetchall())
        for pause in _PAUSES_SECONDS:
            if not writing:
                return marks
            time.sleep(pause)  # There is no way to be told that another transaction has ended.
            raw.execute(_WRITING, [tables])
            writing &= set(raw.fetchall())
    return None if writing else marks


def _seal(marks: Marks) -> AuditSeal | None:
    key = settings.OMS_AUDIT_KEYS[0]
    with transaction.atomic(), cursor() as raw:
        raw.execute(_ONE_AT_A_TIME)
        last = AuditSeal.objects.order_by("-number").first()
        before = last.marks if last is not None else {}
        number = last.number + 1 if last is not None else 1
        until = {}
        for log in LOGS:
            low = before.get(log.kind, 0)
            high = until[log.kind] = max(low, min(marks[log.kind], low + log.most))
            summaries = [(log.kind, log.summary)]
            if log.kind == "operation":
                summaries.append((APPROVAL, APPROVALS))
            if high > low:
                for kind, summary in summaries:
                    told = summary.format(low=above(low), high=high)
                    raw.execute(_INTO.format(number=number, kind=kind, summary=told).encode())
        if all(until[log.kind] == before.get(log.kind, 0) for log in LOGS):
            return None
        raw.execute(
            f"SELECT {DIGEST}, fulfillment_now() FROM fulfillment_sealedrow WHERE of_id = %s",
            [number],
        )
        row = raw.fetchone()
        assert row is not None
        rows, digest, now = row
        seal = AuditSeal(
            number=number,
            sealed_at=now,
            marks=until,
            rows=rows,
            digest=digest,
            previous=last.seal if last is not None else "",
            key_id=keys.key_id(key),
        )
        seal.seal = keys.seal(key=key, document=document(seal))
        seal.save(force_insert=True)
    # Kept elsewhere, with the log: whoever cuts off the newest seals is found by it.
    logger.info(
        "audit sealed", extra={"number": seal.number, "seal": seal.seal, "key_id": seal.key_id}
    )
    return seal
