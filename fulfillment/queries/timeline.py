"""Everything that has happened to an order, as one list (reference §28): read a page at a time.

Order → Plan → Task → Command → Attempt → Result → Event → Transition. What stands where is in many
tables; each is a `Source`, and the order desk adds its own. One query finds which entries a page
has, and one per source reads them: as many as there are sources, however long the history is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.contract import OutcomeKind
from fulfillment.engine.store import graphs
from fulfillment.engine.store.database import array, clean, cursor
from fulfillment.models import (
    Command,
    Task,
)
from fulfillment.states import PlanState, TaskState

PER_PAGE = 100
_LONGEST_KEY = 200
TROUBLE_STATES = (
    TaskState.FAILED_RETRYABLE,
    TaskState.FAILED_FINAL,
    TaskState.OUTCOME_UNKNOWN,
    TaskState.AWAITING_MANUAL,
    PlanState.BLOCKED,
    PlanState.COMPENSATING,
    PlanState.FAILED,
    "REJECTED",
    "PARTIALLY_COMPLETED",
    "DENIED",
)
GOOD_OUTCOMES = (OutcomeKind.SUCCEEDED, OutcomeKind.ACCEPTED)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that has happened; what does not apply is empty."""

    at: datetime
    kind: str
    """As `Source.kind`."""
    table: str
    """What `pk` is a row of: transition, command, attempt, …"""
    pk: int
    what: str
    """Who or what it is about, in words: `task`, `command to billing`, …"""
    task_id: int | None = None
    task: str = ""
    """The task's key."""
    about: str = ""
    """Such as `case:12`: what else it is about, where that has a page."""
    entity: str = ""
    """Whose states these are."""
    before: str = ""
    after: str = ""
    text: str = ""
    """Why, or what was answered."""
    who: str = ""
    ids: tuple[tuple[str, str], ...] = ()
    """By which other systems know it: what it is called, and the id."""
    details: Mapping[str, Any] = field(default_factory=dict)
    is_trouble: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cursor:
    """Where a page ends: the next one begins behind it."""

    at: datetime
    rank: int
    pk: int

    def __str__(self) -> str:
        return f"{(self.at - _EPOCH) // timedelta(microseconds=1)}-{self.rank}-{self.pk}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """None when it is none."""
        parts = text.split("-")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 19 for p in parts):
            return None
        microseconds, rank, pk = map(int, parts)
        try:
            return cls(at=_EPOCH + timedelta(microseconds=microseconds), rank=rank, pk=pk)
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; what is empty is not asked about."""

    kinds: frozenset[str] = frozenset()
    task: str = ""
    """A task's key."""
    item: int | None = None
    """The position of an item: entries of the tasks that serve it."""
    trouble: bool = False
    key: str = ""
    """An idempotency key, or the id of an event: what became of it. The order's own correlation
    id is in everything that leaves for it, so it leaves nothing out."""
    oldest_first: bool = False
    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    entries: Sequence[Entry]
    next: Cursor | None
    """None when this is the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One kind of entries, and how SQL finds them.

    Conditions may use %(fulfillment)s, %(reference)s, %(tasks)s (ids), %(names)s (the same as
    text), %(subjects)s (`task:12`), %(key)s, %(commands)s (ids that belong to the key) and
    %(causes)s (the key, and these commands as events name them).
    """

    kind: str
    words: str
    """As the filter calls it."""
    table: str
    rank: int
    """Of what happened in one moment, what comes first; the same for one table only."""
    at: str
    pk: str
    rows: str
    """FROM … WHERE …"""
    trouble: str = "false"
    of_tasks: str = "false"
    of_key: str = "false"
    load: Callable[[Collection[int]], Iterator[Entry]]


def page(
    *,
    fulfillment_id: int,
    reference: str,
    correlation_id: str,
    wanted: Wanted,
    sources: Sequence[Source],
) -> Page:
    """One page of the history; as many queries as there are sources, and a few."""
    limit = PER_PAGE
    given = _given(fulfillment_id, reference, correlation_id, wanted)
    statement = _statement(wanted, sources, by_key=given["key"] is not None)
    with cursor() as raw:
        raw.execute(statement, {**given, "limit": limit + 1})
        rows = [Cursor(at=at, rank=rank, pk=pk) for at, rank, pk in raw.fetchall()]
    found: dict[tuple[int, int], Entry] = {}
    by_rank: dict[int, set[int]] = defaultdict(set)
    for row in rows[:limit]:
        by_rank[row.rank].add(row.pk)
    for rank, load in {source.rank: source.load for source in sources}.items():
        for entry in load(by_rank[rank]) if rank in by_rank else ():
            found[rank, entry.pk] = entry
    entries = [found[row.rank, row.pk] for row in rows[:limit] if (row.rank, row.pk) in found]
    return Page(entries=entries, next=rows[limit - 1] if len(rows) > limit else None)


def _given(
    fulfillment_id: int, reference: str, correlation_id: str, wanted: Wanted
) -> dict[str, Any]:
    key = clean(wanted.key, _LONGEST_KEY).strip() or None
    if key in (correlation_id, reference):
        key = None
    tasks = _tasks(fulfillment_id, wanted)
    commands: list[int] = []
    names = [str(task) for task in tasks]
    if key is not None:
        known = Command.objects.filter(idempotency_key=key, task__plan__fulfillment=fulfillment_id)
        pairs = list(known.values_list("pk", "task_id"))
        commands, names = [pk for pk, _ in pairs], names + [str(task) for _, task in pairs]
    return {
        "fulfillment": fulfillment_id,
        "reference": reference,
        "tasks": array(tasks),
        "names": array(names),
        "subjects": array([f"task:{name}" for name in names]),
        "key": key,
        "commands": array(commands),
        "causes": array([key or "", *(f"cmd-{command}" for command in commands)]),
        "trouble_states": array([str(state) for state in TROUBLE_STATES]),
        "good_outcomes": array([str(kind) for kind in GOOD_OUTCOMES]),
        "at": wanted.after.at if wanted.after else None,
        "rank": wanted.after.rank if wanted.after else None,
        "pk": wanted.after.pk if wanted.after else None,
    }


def _tasks(fulfillment_id: int, wanted: Wanted) -> list[int]:
    """The tasks that are asked for, of all plans of the order and of all rounds."""
    if not wanted.task and wanted.item is None:
        return []
    rows = Task.objects.filter(plan__fulfillment=fulfillment_id)
    if wanted.task:
        rows = rows.filter(key=clean(wanted.task, _LONGEST_KEY))
    if wanted.item is None:
        return list(rows.values_list("pk", flat=True))
    return [
        pk
        for pk, graph_id, node in rows.values_list("pk", "plan__graph_id", "node")
        if wanted.item in graphs.by_id(graph_id).nodes[node].items
    ]


def _statement(wanted: Wanted, sources: Sequence[Source], *, by_key: bool) -> str:
    way, compare = ("ASC", ">") if wanted.oldest_first else ("DESC", "<")
    arms = []
    for source in sources:
        if wanted.kinds and source.kind not in wanted.kinds:
            continue
        conditions = [source.rows]
        if wanted.task or wanted.item is not None:
            conditions.append(f"({source.of_tasks})")
        if wanted.trouble:
            conditions.append(f"({source.trouble})")
        if by_key:
            conditions.append(f"({source.of_key})")
        if wanted.after is not None:
            conditions.append(
                f"({source.at}, {source.rank}, {source.pk}) {compare} "
                "(%(at)s::timestamptz, %(rank)s::int, %(pk)s::bigint)"
            )
        arms.append(
            f"(SELECT {source.at} AS at, {source.rank} AS rank, {source.pk} AS pk "
            f"FROM {' AND '.join(conditions)} ORDER BY 1 {way}, 3 {way} LIMIT %(limit)s)"
        )
    arms = arms or ["(SELECT NULL::timestamptz AS at, 0 AS rank, 0::bigint AS pk WHERE false)"]
    return (
        f"SELECT at, rank, pk FROM ({' UNION ALL '.join(arms)}) found "
        f"ORDER BY at {way}, rank {way}, pk {way} LIMIT %(limit)s"
    )
