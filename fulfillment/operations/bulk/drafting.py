"""A job is drafted: its rows are frozen, and what may be done to all of them is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import authorize, holds
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import Table, clean
from fulfillment.engine.work import hints
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import EvidenceMissing, Fault, ParametersInvalid, SelectionInvalid
from fulfillment.models import (
    BulkJob,
    FalloutCase,
    Hold,
    ManualTask,
    RowState,
    Task,
)
from fulfillment.operations.bulk.selecting import Selection, leads, select
from fulfillment.operations.catalog import every_repair, repair_of
from fulfillment.operations.records import log, reason_of
from fulfillment.operations.repair import values_of

_ROWS = Table(
    "fulfillment_bulkrow",
    job_id="bigint",
    position="int",
    subject="text",
    subject_pk="bigint",
    state="text",
    foreseen="text",
    foretold="text",
    version="text",
    told="text",
    code="text",
    tries="smallint",
)
_NEVER = frozenset({Action.BULK_START, Action.BULK_CONTROL, Action.INCIDENT_RELEASE})
"""A job over jobs would hide what is done."""
_WITH_STATES = {"task": Task, "case": FalloutCase, "manual": ManualTask, "hold": Hold}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """In which steps a job goes on, and when it stops."""

    canary: int = 5
    """How many are done first, spread over all of them."""
    stages: tuple[int, ...] = (10, 50)
    """Then up to so many percent, one after the other, and then the rest."""
    goes_on: bool = False
    """After a stage that went well, without being asked."""
    most_failures: int = 10
    most_failures_percent: int = 20
    """Of those tried, once as many as the canary were tried."""
    known_within: timedelta = timedelta(hours=1)
    """What has not come about by then has not."""

    def check(self) -> None:
        """Raises ParametersInvalid with all that does not fit."""
        found = []
        if not 1 <= self.canary <= 1000:
            found.append(("canary", "The canary has between 1 and 1000 rows."))
        rising = list(self.stages) == sorted(set(self.stages))
        if not rising or any(not 1 <= percent <= 99 for percent in self.stages):
            found.append(("stages", "Stages are rising numbers of percent from 1 to 99."))
        if not 0 <= self.most_failures <= 100_000:
            found.append(("most_failures", "Between 0 and 100000 rows may fail."))
        if not 0 <= self.most_failures_percent <= 100:
            found.append(("most_failures_percent", "Between 0 and 100 percent may fail."))
        if not timedelta(0) <= self.known_within <= timedelta(days=30):
            found.append(("known_within", "Results are awaited for at most 30 days."))
        if found:
            raise ParametersInvalid(
                [Fault(code="bulk.terms", path=path, message=message) for path, message in found]
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForMany:
    """An action, and for how many of a selection it can be possible as they are now."""

    action: Action
    words: str
    possible: int
    of: int

    @property
    def for_all(self) -> bool:
        return self.possible == self.of


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A job that may be drafted: all of it was checked, and its rows are chosen."""

    actor: Actor
    action: Action
    parameters: Mapping[str, Any]
    selection: Selection
    subjects: Sequence[str]
    reason: str
    evidence: str
    terms: Terms
    incident_id: int | None = None

    def write(self, unit: Unit) -> BulkJob:
        """The draft and its rows; then each is looked at."""
        job = BulkJob.objects.create(
            action=self.action,
            parameters=dict(self.parameters),
            reason=self.reason,
            evidence=self.evidence,
            selection=self.selection.document(),
            canary=self.terms.canary,
            stages=list(self.terms.stages),
            goes_on=self.terms.goes_on,
            most_failures=self.terms.most_failures,
            most_failures_percent=self.terms.most_failures_percent,
            known_within=self.terms.known_within,
            incident_id=self.incident_id,
            actor=self.actor.name,
            actor_kind=self.actor.kind,
            requested_by_id=self.actor.user_id,
            drafted_at=unit.now,
            changed_at=unit.now,
        )
        _ROWS.insert(
            unit.raw,
            [
                (job.pk, position, subject, 0, RowState.PENDING, "", "", "", "", "", 0)
                for position, subject in enumerate(self.subjects, 1)
            ],
        )
        log(
            kind="draft_bulk_job",
            subject=f"bulk:{job.pk}",
            actor=self.actor.name,
            reason=self.reason,
            after={
                "action": job.action,
                "rows": len(self.subjects),
                "selection": job.selection,
            },
            now=unit.now,
        )
        transaction.on_commit(hints.announce_bulk, robust=True)
        return job


def wanted(
    *,
    actor: Actor,
    action: str,
    selection: Selection,
    reason: str,
    evidence: str = "",
    parameters: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
) -> Wanted:
    """What the selection finds now, for one action with these parameters; nothing is written.

    Call it outside of any transaction: an answer about authority stays. Raises ActionUnknown,
    Denied, ReasonMissing, EvidenceMissing, ParametersInvalid and SelectionInvalid.
    """
    repair = repair_of(action)
    if repair.action in _NEVER:
        raise SelectionInvalid(f"{action} is not done to many at once.")
    reason = reason_of(reason)
    for needed in (Action.BULK_START, repair.action):
        # Where its rows are is known once they are looked at, and asked about then. Who may
        # nowhere at all is told at once.
        if not holds(actor=actor, action=needed):
            authorize(actor=actor, action=needed, context=Context(subject="bulk:new"))
    terms = terms or Terms()
    terms.check()
    values = values_of(repair=repair, parameters=parameters or {})
    evidence = clean(evidence.strip(), 4000)
    if repair.needs_evidence and not evidence:
        raise EvidenceMissing("Say what this rests on, for all of them: a ticket, a report.")
    return Wanted(
        actor=actor,
        action=repair.action,
        parameters=values.model_dump(mode="json"),
        selection=selection,
        subjects=select(selection=selection, about=(repair.about, *repair.also_about)),
        reason=reason,
        evidence=evidence,
        terms=terms,
    )


def draft(
    *,
    actor: Actor,
    action: str,
    selection: Selection,
    reason: str,
    evidence: str = "",
    parameters: Mapping[str, Any] | None = None,
    terms: Terms | None = None,
) -> BulkJob:
    """Freeze what the selection finds now. Nothing is done to any of it yet: each row is looked
    at, and then somebody starts the job. Raises as `wanted` does."""
    job = wanted(
        actor=actor,
        action=action,
        selection=selection,
        reason=reason,
        evidence=evidence,
        parameters=parameters,
        terms=terms,
    )
    return run_unit(job.write, fulfillment_ids=(), actor=actor.name)


def offers(*, actor: Actor, about: str, names: Collection[str]) -> list[ForMany]:
    """What this actor may do to things of this kind, and to how many of these it can be done.

    By their states alone, in one statement; the dry run looks at each. What is done to something
    that they lead to, such as the failed tasks of cases, counts as possible for all.
    """
    allowed = [
        repair
        for repair in every_repair()
        if repair.action not in _NEVER
        and (about in (repair.about, *repair.also_about) or leads(of=about, to=repair.about))
        and holds(actor=actor, action=repair.action)
    ]
    counted = _states(about, names) if any(one.from_states for one in allowed) else {}
    return [
        ForMany(
            action=repair.action,
            words=repair.action.words,
            possible=sum(counted.get(state, 0) for state in repair.from_states)
            if repair.from_states and counted and repair.about == about
            else len(names),
            of=len(names),
        )
        for repair in allowed
    ]


def _states(about: str, names: Collection[str]) -> Mapping[str, int]:
    model: Any = _WITH_STATES.get(about)
    if model is None or not hasattr(model, "state"):
        return {}
    numbers = [int(name) for name in names if name.isascii() and name.isdigit()]
    rows = model.objects.filter(pk__in=numbers).order_by().values_list("state")
    return dict(rows.annotate(number=Count("pk")))
