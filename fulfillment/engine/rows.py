"""Reading plans and tasks under a unit's locks, without the cost of the ORM's compiler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg

from fulfillment.engine.database import Row
from fulfillment.models import Plan, Task

TASK_COLUMNS = tuple(field.attname for field in Task._meta.concrete_fields)
PLAN_COLUMNS = tuple(field.attname for field in Plan._meta.concrete_fields)
_OUTPUTS = TASK_COLUMNS.index("outputs")
_LOCKS = TASK_COLUMNS.index("locks")
_PROGRESS = TASK_COLUMNS.index("progress")
_LIMITS = TASK_COLUMNS.index("limits")
_PLAN_LOCKS = PLAN_COLUMNS.index("locks")
_TASKS = f"SELECT {', '.join(f't.{column}' for column in TASK_COLUMNS)} FROM fulfillment_task t "
# The LIMIT keeps the planner from reading every task of round 0 while the table is small: that
# plan would be kept when it has grown.
_TASKS_AT = f"""
SELECT t.* FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS w(plan_id, node, element)
CROSS JOIN LATERAL (
    {_TASKS} WHERE t.plan_id = w.plan_id AND t.node = w.node AND t.element = w.element
      AND t.round = 0 LIMIT 1
) t
"""
_TASKS_BY_PLAN = _TASKS + "WHERE t.plan_id = ANY(%s::bigint[]) AND t.round = 0"
_TASKS_BY_ID = _TASKS + "WHERE t.id = ANY(%s::bigint[])"
_PLANS = f"SELECT {', '.join(PLAN_COLUMNS)} FROM fulfillment_plan WHERE id = ANY(%s::bigint[])"


def task_from_row(row: Sequence[Any]) -> Task:
    """A task instance from a row in the order of TASK_COLUMNS."""
    values = list(row)
    if values[_OUTPUTS] is not None:
        values[_OUTPUTS] = json.loads(values[_OUTPUTS])
    if values[_LOCKS] is not None:
        values[_LOCKS] = json.loads(values[_LOCKS])
    if values[_PROGRESS] is not None:
        values[_PROGRESS] = json.loads(values[_PROGRESS])
    if values[_LIMITS] is not None:
        values[_LIMITS] = json.loads(values[_LIMITS])
    return Task.from_db("default", TASK_COLUMNS, values)


def plans_by_id(raw: psycopg.Cursor[Row], plan_ids: Iterable[int]) -> list[Plan]:
    """Plans with `context` left as JSON text: most units never look into it."""
    raw.execute(_PLANS, [sorted(plan_ids)], prepare=True)
    return [_plan_from_row(row) for row in raw.fetchall()]


def _plan_from_row(row: Sequence[Any]) -> Plan:
    values = list(row)
    if values[_PLAN_LOCKS] is not None:
        values[_PLAN_LOCKS] = json.loads(values[_PLAN_LOCKS])
    return Plan.from_db("default", PLAN_COLUMNS, values)


def tasks_at(raw: psycopg.Cursor[Row], places: Iterable[tuple[int, int, int]]) -> list[Task]:
    """Tasks by (plan id, node, element); what does not exist is left out."""
    wanted = sorted(places)
    if not wanted:
        return []
    raw.execute(_TASKS_AT, [list(column) for column in zip(*wanted, strict=True)], prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]


def tasks_by_id(raw: psycopg.Cursor[Row], task_ids: Iterable[int]) -> list[Task]:
    """Tasks by id; what does not exist is left out."""
    raw.execute(_TASKS_BY_ID, [sorted(task_ids)], prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]


def tasks_by_plan(raw: psycopg.Cursor[Row], plan_ids: Iterable[int]) -> list[Task]:
    """Every task of these plans that counts."""
    raw.execute(_TASKS_BY_PLAN, [sorted(plan_ids)], prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]
