"""Incidents: cases with one cause are brought together; somebody has it, and may close it."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Any

from django.conf import settings
from pydantic import Field

from fulfillment.actions import Action
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import clean
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import IncidentUnknown, NotPossible
from fulfillment.models import IS_UNRESOLVED, UNRESOLVED, Incident, IncidentState
from fulfillment.operations.having import Having, who_gets
from fulfillment.operations.looking import found_once
from fulfillment.operations.records import log
from fulfillment.operations.repair import Done, Found, Parameters, Repair, Why
from fulfillment.operations.subjects import domains_of, number_of

_ONE_AT_A_TIME = "SELECT pg_try_advisory_xact_lock(hashtext('fulfillment.incidents'))"
_MANY = f"""
SELECT fingerprint, min(id) FROM fulfillment_falloutcase
WHERE {UNRESOLVED} AND incident_id IS NULL AND fingerprint <> ''
GROUP BY fingerprint HAVING count(*) >= %s ORDER BY 2
"""
_OPEN = f"""
INSERT INTO fulfillment_incident (
    state, fingerprint, target, action, reason_code, title, severity, owner_queue, assigned_to,
    cause, fix, opened_at, resolved_by)
SELECT 'OPEN', fingerprint, target, action, reason_code,
    left(concat_ws(' ', nullif(target, ''), action) || ': ' || reason_code, 300),
    severity, owner_queue, '', '', '', %s, ''
FROM fulfillment_falloutcase WHERE id = %s
ON CONFLICT (fingerprint) WHERE {UNRESOLVED} DO NOTHING
RETURNING id, title
"""
# Whoever is at a case just now is not waited for: it joins the next time.
_JOIN = f"""
UPDATE fulfillment_falloutcase SET incident_id = found.incident_id
FROM (
    SELECT c.id, i.id AS incident_id FROM fulfillment_incident i
    JOIN fulfillment_falloutcase c ON c.fingerprint = i.fingerprint
    WHERE i.{UNRESOLVED} AND c.{UNRESOLVED} AND c.incident_id IS NULL AND c.fingerprint <> ''
    LIMIT %s FOR NO KEY UPDATE OF c SKIP LOCKED
) found WHERE fulfillment_falloutcase.id = found.id
"""
_OVER = f"""
SELECT id FROM fulfillment_incident i
WHERE i.{UNRESOLVED} AND NOT EXISTS (
    SELECT 1 FROM fulfillment_falloutcase c WHERE c.incident_id = i.id AND c.{UNRESOLVED})
ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
_TOGETHER = 1000
_BY = "incidents"


def group_cases() -> int:
    """Bring cases with one cause together, and close what has none left. How many have joined.

    An incident is opened from OMS_INCIDENT_CASES open cases on; what comes later joins it.
    """
    joined = 0
    while True:
        count = run_unit(_group, fulfillment_ids=[], actor=_BY)
        joined += count
        if count < _TOGETHER:
            return joined


def _group(unit: Unit) -> int:
    unit.raw.execute(_ONE_AT_A_TIME)
    row = unit.raw.fetchone()
    if row is None or not row[0]:
        return 0  # Another process is at it.
    unit.raw.execute(_MANY, [settings.OMS_INCIDENT_CASES], prepare=True)
    for _, case_id in unit.raw.fetchall():
        unit.raw.execute(_OPEN, [unit.now, case_id], prepare=True)
        for incident_id, title in unit.raw.fetchall():
            _log(unit, incident_id, "open_incident", "", IncidentState.OPEN, title)
    unit.raw.execute(_JOIN, [_TOGETHER], prepare=True)
    joined = unit.raw.rowcount
    unit.raw.execute(_OVER, prepare=True)
    over = [incident_id for (incident_id,) in unit.raw.fetchall()]
    for incident in Incident.objects.filter(pk__in=over).order_by("pk"):
        resolve(unit, incident=incident, cause="All of its cases are resolved.")
    return joined


def resolve(unit: Unit, *, incident: Incident, cause: str) -> None:
    """It is over, under the lock of its row."""
    before = str(incident.state)
    incident.resolve()
    incident.resolved_at, incident.resolved_by = unit.now, unit.actor[:150]
    incident.save()
    _log(unit, incident.pk, "resolve_incident", before, IncidentState.RESOLVED, cause)


class AssignIncident(Repair):
    """Take it, give it to somebody, or give it back. Who has its cases stays as it is."""

    action = Action.INCIDENT_ASSIGN
    kind = "assign_incident"
    about = "incident"
    parameters = Having
    people = MappingProxyType({"to": Action.INCIDENT_ASSIGN})
    from_states = frozenset({str(IncidentState.OPEN), str(IncidentState.RELEASING)})

    def find(self, *, name: str) -> Found:
        return incident_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        state, has = Incident.objects.values_list("state", "assigned_to").get(pk=found.pk)
        return hashlib.sha256(f"{state} {has}".encode()).hexdigest()[:16]

    def carry_out(self, unit: Unit, found: Found, parameters: Having, why: Why) -> Done:
        incident = _open(found)
        has = incident.assigned_to
        if parameters.release:
            if not has:
                raise NotPossible(f"Incident {incident.pk} is nobody's already.")
            to, told = "", f"Incident {incident.pk} is nobody's; {incident.owner_queue} sees to it."
        else:
            to = who_gets(parameters, what=f"incident {incident.pk}", has=has, asks=why.actor)
            told = f"Incident {incident.pk} is {to}'s."
        incident.assigned_to = to
        incident.save(update_fields=["assigned_to"])
        return Done(told=told, before={"assigned_to": has}, after={"assigned_to": to})


class Closing(Parameters):
    """What `incident.close` is told."""

    cause: str = Field(default="", max_length=2000, description="What was found.")
    fix: str = Field(default="", max_length=2000, description="What was done about it.")


class CloseIncident(Repair):
    """Its cases are seen to one by one from now on: those that are open stay open."""

    action = Action.INCIDENT_CLOSE
    kind = "close_incident"
    about = "incident"
    parameters = Closing
    from_states = frozenset({str(IncidentState.OPEN), str(IncidentState.RELEASING)})

    def find(self, *, name: str) -> Found:
        return incident_found(name=name)

    def version(self, unit: Unit, found: Found) -> str:
        return str(Incident.objects.values_list("state", flat=True).get(pk=found.pk))

    def carry_out(self, unit: Unit, found: Found, parameters: Closing, why: Why) -> Done:
        incident = _open(found)
        before = {"state": str(incident.state), "cause": incident.cause, "fix": incident.fix}
        incident.cause = clean(parameters.cause.strip(), 2000) or incident.cause
        incident.fix = clean(parameters.fix.strip(), 2000) or incident.fix
        still_open = incident.cases.filter(IS_UNRESOLVED).count()
        resolve(unit, incident=incident, cause=why.reason)
        return Done(
            told=f"Incident {incident.pk} is closed; {still_open} of its cases are still open.",
            before=before,
            after={
                "state": str(incident.state),
                "cause": incident.cause,
                "fix": incident.fix,
                "open_cases": still_open,
            },
        )


def _open(found: Found) -> Incident:
    """The incident, locked. Raises NotPossible for one that is over."""
    incident = Incident.objects.select_for_update(no_key=True).get(pk=found.pk)
    if incident.state == IncidentState.RESOLVED:
        raise NotPossible(
            f"Incident {incident.pk} is closed since {incident.resolved_at:%Y-%m-%d %H:%M} "
            f"UTC, by {incident.resolved_by}."
        )
    return incident


@found_once
def incident_found(*, name: str) -> Found:
    """An incident by its number. Raises SubjectUnknown, IncidentUnknown."""
    incident = Incident.objects.filter(pk=number_of(name, about="incident")).first()
    if incident is None:
        raise IncidentUnknown(f"There is no incident {name}; `manage.py incidents list` has them.")
    subject = f"incident:{incident.pk}"
    targets = frozenset({incident.target} - {""})
    return Found(
        subject=subject,
        pk=incident.pk,
        context=Context(subject=subject, targets=targets, domains=domains_of(targets)),
        state=incident.state,
    )


def _log(unit: Unit, incident_id: int, kind: str, before: str, after: str, cause: str) -> None:
    values: dict[str, Any] = {"state": str(after)}
    log(
        kind=kind,
        subject=f"incident:{incident_id}",
        actor=unit.actor,
        reason=cause,
        before={"state": before},
        after=values,
        now=unit.now,
    )
