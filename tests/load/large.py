"""What a system has few of, and each of them large: an incident, a plan, a bulk job.

They are made while it is nearly empty, and small: pages are asked for them before and after.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from fulfillment import operations
from fulfillment.models import BulkJob, BulkRow, FalloutCase, Incident, Task
from fulfillment.operations import bulk
from fulfillment.operations.incidents import group_cases
from oms.models import Order
from tests import by_force, desk, people

ALIKE = 2
"""Orders of the crowd's kind that fail for the same reason, beside the one that has."""
TASKS = 500
ROWS = 10_000
CLOSED = 4
"""Cases that are closed, to each that is open."""
_ABREAST = 25
_DONE = TASKS // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Large:
    incident: Incident
    case: FalloutCase
    """One of it."""
    order: Order
    """Of a plan of TASKS tasks: half of them are done, and _ABREAST wait."""
    job: BulkJob


def small_ones() -> Large:
    """In a system that has `tests.crowd.one_of_each`. What fails is copied with the crowd, and all
    that is copied is of the incident."""
    desk.systems.sends["refused"] = [desk.rejected()] * ALIKE
    desk.submit_all(*(desk.request(desk.item("failed")) for _ in range(ALIKE)))
    desk.finish()
    group_cases()
    incident = Incident.objects.get()
    _closed_cases()
    job = bulk.draft(
        actor=people.almighty(),
        action="task.retry",
        selection=bulk.Selection(of="task", filter={"target": "alpha"}),
        reason="The mapping is there now.",
    )
    desk.workflow(_wide(), offering="wide")
    order = desk.order(desk.item("wide"), external_id="WIDE")
    desk.finish()
    return Large(
        incident=incident,
        case=FalloutCase.objects.filter(incident=incident).order_by("pk")[0],
        order=order,
        job=job,
    )


def grow(large: Large) -> None:
    """What the crowd does not bring along: the rows of the job, and cases that are closed."""
    _closed_cases()
    named = set(large.job.rows.values_list("subject", flat=True))
    failed = Task.objects.filter(state="FAILED_FINAL").order_by("pk")
    subjects = (f"task:{pk}" for pk in failed.values_list("pk", flat=True)[:ROWS])
    rows = [
        BulkRow(job=large.job, position=position, subject=subject)
        for position, subject in enumerate(set(subjects) - named, start=len(named) + 1)
    ]
    with by_force.unguarded():
        BulkRow.objects.bulk_create(rows, batch_size=1000)


def _closed_cases() -> None:
    """Of every open one several like it, resolved: most cases of a system that has run for
    months are."""
    table = FalloutCase._meta.db_table
    with connection.cursor() as raw:
        raw.execute(f"SELECT max(id) FROM {table}")
        ((top,),) = raw.fetchall()
    own = {
        "id": f"id + n * {top}",
        "subject": "subject || '-closed-' || n",
        "state": "'RESOLVED'",
        "incident_id": "NULL",
        "resolved_at": "opened_at",
        "resolved_by": "'engine'",
    }
    columns = [field.column for field in FalloutCase._meta.concrete_fields]
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(own.get(name, f'"{name}"') for name in columns)
    by_force.as_owner(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM {table}, "
        f"generate_series(1, {CLOSED}) n WHERE resolved_at IS NULL",
        f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))",
    )


def asked_of(large: Large) -> dict[str, str]:
    """Forms of operations that are opened on them, by what is to be done to what."""
    reference = large.order.reference
    return {
        operations.repair_of(action).action.value: subject
        for action, subject in {
            "order.cancel": f"order:{reference}",
            "order.change": f"order:{reference}",
            "plan.terminate": f"order:{reference}",
            "task.retry": f"task:{large.case.task_id}",
            "incident.release": f"incident:{large.incident.pk}",
            "bulk.start": f"bulk:{large.job.pk}",
        }.items()
    }


def _wide() -> dict[str, Any]:
    """Chains abreast that cross, each of which waits halfway."""
    tasks: dict[str, Any] = {}
    for number in range(TASKS):
        before = [number - _ABREAST, number - _ABREAST - 1]
        after = [f"t{one}" for one in before if one >= 0]
        waits = _DONE <= number < _DONE + _ABREAST
        tasks[f"t{number}"] = (
            desk.step(wait={"delay": "P90D"}, after=after) if waits else desk.task(after=after)
        )
    return tasks
