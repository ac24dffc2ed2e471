"""What is sealed: the chains of orders, and the logs that have no chain of their own.

Each log is read by ascending id, and what came between two marks is summed up in rows: an order's
chain by its newest row, whose hash covers all before it; its commands by their number and one
digest; operations and decisions one by one. Sealing and verifying run the same statements.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One append-only table."""

    kind: str
    table: str
    summary: str
    """SELECT of row_id, sequence and digest for the ids in (low, high]."""
    most: int
    """How many ids one seal covers at most, so that a first seal is many small ones."""
    columns: tuple[str, ...] = ()
    """What a digest covers, beside the id."""


def digest_of(columns: tuple[str, ...]) -> str:
    """SQL of a row's digest: its values as a JSON list, moments in seconds."""
    return (
        f"encode(sha256(convert_to(jsonb_build_array({', '.join(columns)})::text, 'UTF8')), 'hex')"
    )


def above(mark: int) -> int:
    """Where what comes behind a mark begins; behind none, also rows below every number given."""
    return mark or -(2**63)


def _row_by_row(kind: str, table: str, *columns: str) -> Log:
    return Log(
        kind=kind,
        table=table,
        summary=f"SELECT id AS row_id, 0 AS sequence, {digest_of(('id', *columns))} AS digest "
        f"FROM {table} WHERE id > {{low}} AND id <= {{high}}",
        most=20_000,
        columns=columns,
    )


def _moment(column: str) -> str:
    return f"extract(epoch FROM {column})"


# A column that comes later is not covered for what was sealed before it, so it makes a kind of its
# own ("operation.2"), sealed instead of this one from then on.
_COMMAND = (
    "task_id",
    "fulfillment_id",
    "revision",
    "target_id",
    "action",
    "idempotency_key",
    "payload",
    _moment("created_at"),
)
LOGS = (
    Log(
        kind="chain",
        table="fulfillment_transition",
        summary="SELECT DISTINCT ON (fulfillment_id) fulfillment_id AS row_id, sequence, "
        "hash AS digest FROM fulfillment_transition WHERE id > {low} AND id <= {high} "
        "ORDER BY fulfillment_id, sequence DESC",
        most=200_000,
    ),
    Log(
        kind="commands",
        table="fulfillment_command",
        summary="SELECT fulfillment_id AS row_id, count(*)::int AS sequence, "
        f"encode(sha256(convert_to(string_agg({digest_of(('id', *_COMMAND))}, '' ORDER BY id), "
        "'UTF8')), 'hex') AS digest "
        "FROM fulfillment_command WHERE id > {low} AND id <= {high} GROUP BY fulfillment_id",
        most=50_000,
        columns=_COMMAND,
    ),
    _row_by_row(
        "operation",
        "fulfillment_operation",
        *("kind", "subject", "actor", "reason", "before", "after", "authority", "evidence"),
        *("customer_impact", "financial_impact", "order_reference", "approval_id"),
        _moment("happened_at"),
    ),
    _row_by_row(
        "decision",
        "fulfillment_authoritydecision",
        *("actor", "actor_kind", "user_id", "action", "subject", "context", "is_allowed", "why"),
        _moment("decided_at"),
    ),
)
# Approvals move, and each time an operation says so: they are sealed as they are with that one.
APPROVAL = "approval"
APPROVAL_COLUMNS = (
    *("id", "action", "subject", "fulfillment_id", "state", "needs", "payload", "payload_hash"),
    *("version", "told", "requested_by_id", _moment("requested_at"), _moment("expires_at")),
    *("decided_by_id", _moment("decided_at"), "decision_reason"),
)
APPROVALS = (
    f"SELECT id AS row_id, 0 AS sequence, {digest_of(APPROVAL_COLUMNS)} AS digest "
    "FROM fulfillment_approval WHERE id IN ("
    "SELECT substr(subject, 10)::bigint FROM fulfillment_operation "
    "WHERE id > {low} AND id <= {high} AND subject ~ '^approval:[0-9]{{1,18}}$')"
)
