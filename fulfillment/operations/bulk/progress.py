"""How far a job is: stage by stage, how much has failed of what may, and the rows to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import IntegerField, Q, QuerySet, Value

from fulfillment.engine.store.database import array, cursor
from fulfillment.models import BulkJob, BulkRow, BulkState, FalloutCase, Foreseen, RowState, Task
from fulfillment.operations.bulk.stages import Counts, counted, ends_of

_BY_STAGE = """
SELECT width_bucket(position - 1, %s::int[]), state, foreseen, code = 'authority.denied', count(*)
FROM fulfillment_bulkrow WHERE job_id = %s GROUP BY 1, 2, 3, 4
"""
_FAILED = frozenset({RowState.FAILED, RowState.NOT_VERIFIED, RowState.REFUSED})
_WORST_FIRST = (
    *(RowState.FAILED, RowState.NOT_VERIFIED, RowState.REFUSED, RowState.DONE),
    *(RowState.VERIFIED, RowState.PENDING, RowState.LEFT_OUT),
)
_BY_FORESIGHT: Mapping[str, Q] = {
    "impossible": Q(foreseen__in=[Foreseen.IMPOSSIBLE, Foreseen.DENIED]),
    "possible": Q(foreseen=Foreseen.POSSIBLE),
    "unseen": Q(foreseen=Foreseen.UNSEEN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Some rows that are done together; the next stage waits until it is known what came of them.

    `first` and `last` are positions, from 1.
    """

    number: int
    """0: the canary."""
    first: int
    last: int
    is_now: bool
    """It is the one that the job is at."""
    by_state: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    @property
    def verified(self) -> int:
        return self.by_state.get(RowState.VERIFIED, 0)

    @property
    def failed(self) -> int:
        """Refused ones too: what was wanted has not come about."""
        return sum(self.by_state.get(state, 0) for state in _FAILED)

    @property
    def awaited(self) -> int:
        """Done, and not known yet what came of it."""
        return self.by_state.get(RowState.DONE, 0)

    @property
    def is_over(self) -> bool:
        return self.verified + self.failed == self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Of a whole job."""

    counts: Counts
    stages: Sequence[Stage]
    """Of a draft: as they would be."""
    failures: int
    """That count, beyond those that somebody has seen who let it go on."""
    tried: int
    """Beyond the same."""

    @property
    def failed_percent(self) -> int:
        return 0 if not self.tried else round(self.failures * 100 / self.tried)

    @property
    def seen(self) -> int:
        """Rows that the dry run has looked at."""
        return self.counts.total - self.counts.unseen


def progress_of(*, job: BulkJob) -> Progress:
    """In one statement, however many rows it has."""
    with cursor() as raw:
        raw.execute(_BY_STAGE, [array(job.ends or [0]), job.pk])
        rows = raw.fetchall()
    counts = counted(rows)
    by_stage: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for number, state, _, _, count in rows:
        if state != RowState.LEFT_OUT:  # What was left out of the draft has no place in a stage.
            by_stage[number if job.ends else -1][state] += count
    ends = job.ends or ends_of(total=counts.total, canary=job.canary, stages=job.stages)
    is_begun = job.state not in (BulkState.DRAFT, BulkState.CANCELLED, BulkState.COMPLETED)
    stages = [
        Stage(
            number=number,
            first=before + 1,
            last=end,
            is_now=is_begun and number == job.stage,
            by_state=dict(by_stage[number]),
        )
        for number, (before, end) in enumerate(zip([0, *ends], ends, strict=False))
        if end > before
    ]
    return Progress(
        counts=counts,
        stages=stages,
        failures=max(counts.failures - job.forgiven, 0),
        tried=max(counts.tried - job.forgiven_of, 0),
    )


def worst_first(*, job: BulkJob, which: str = "", at_most: int = 50) -> list[BulkRow]:
    """Rows to look at: those that have failed, then those awaited, then the others.

    `which` is a state, or of what waits `impossible`, `possible` or `unseen`; else all. One
    statement.
    """
    rows = job.rows.order_by("position", "pk")
    if which in _BY_FORESIGHT:
        return list(rows.filter(_BY_FORESIGHT[which], state=RowState.PENDING)[:at_most])
    if which in list(RowState):
        return list(rows.filter(state=which)[:at_most])
    if job.state == BulkState.DRAFT:
        parts: Iterable[QuerySet[BulkRow]] = (
            rows.filter(condition, state=RowState.PENDING) for condition in _BY_FORESIGHT.values()
        )
    else:
        parts = (rows.filter(state=state) for state in _WORST_FIRST)
    first, *others = (
        part.annotate(rank=Value(rank, output_field=IntegerField()))[:at_most]
        for rank, part in enumerate(parts)
    )
    return list(first.union(*others, all=True).order_by("rank", "position", "id")[:at_most])


def names_of(rows: Collection[BulkRow]) -> dict[str, str]:
    """By subject, what people call it: the order and its task, or what a case says; one
    statement. What is missing is called by its subject."""
    kinds = {row.subject.partition(":")[0] for row in rows}
    numbers = [int(name) for row in rows if (name := row.subject.partition(":")[2]).isdecimal()]
    if kinds == {"task"}:
        tasks = Task.objects.filter(pk__in=numbers)
        columns = ("pk", "fulfillment__order_reference", "key")
        return {f"task:{pk}": f"{order} · {key}" for pk, order, key in tasks.values_list(*columns)}
    if kinds == {"case"}:
        cases = FalloutCase.objects.filter(pk__in=numbers).values_list("pk", "title")
        return {f"case:{pk}": title for pk, title in cases}
    return {}
