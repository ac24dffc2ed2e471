"""Instances of rows that a unit reads and writes, without what the ORM does around them.

A model's own constructor goes through all of its fields and sends two signals: measured at a
fifth of the engine's time. These are ordinary instances, filled in at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import psycopg
from django.db.models import Model
from django.db.models.base import ModelState

from fulfillment.engine.store.database import Row, array, arrays
from fulfillment.models import Plan, Task

M = TypeVar("M", bound=Model)

TASK_COLUMNS = tuple(field.attname for field in Task._meta.concrete_fields)
PLAN_COLUMNS = tuple(field.attname for field in Plan._meta.concrete_fields)
_DOCUMENTS = tuple(
    TASK_COLUMNS.index(column)
    for column in ("correction", "limits", "locks", "outputs", "progress")
)
_PLAN_DOCUMENTS = tuple(PLAN_COLUMNS.index(column) for column in ("locks", "giving_up_what"))
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


def fresh(model: type[M], **values: Any) -> M:
    """A row that is not stored yet; what is not given has its default."""
    row = model.__new__(model)
    row.__dict__.update(_defaults(model))
    row.__dict__.update(values)
    row._state = ModelState()
    return row


@cache
def _defaults(model: type[Model]) -> Mapping[str, Any]:
    """Of all fields, by attribute; nobody changes one in place, as they are all immutable."""
    values = {name: value for name, value in vars(model()).items() if name != "_state"}
    assert not any(isinstance(value, list | dict) for value in values.values()), model
    return values


def stored(model: type[M], columns: Sequence[str], values: Sequence[Any]) -> M:
    """A row as it was read; documents are values already."""
    row = model.__new__(model)
    row.__dict__.update(zip(columns, values, strict=True))
    row._state = ModelState()
    row._state.adding = False
    row._state.db = "default"
    return row


def task_from_row(row: Sequence[Any]) -> Task:
    """A task instance from a row in the order of TASK_COLUMNS."""
    values = list(row)
    for index in _DOCUMENTS:
        if values[index] is not None:
            values[index] = json.loads(values[index])
    return stored(Task, TASK_COLUMNS, values)


def plans_by_id(raw: psycopg.Cursor[Row], plan_ids: Iterable[int]) -> list[Plan]:
    """Plans with `context` left as JSON text: most units never look into it."""
    raw.execute(_PLANS, [array(sorted(plan_ids))], prepare=True)
    return [_plan_from_row(row) for row in raw.fetchall()]


def _plan_from_row(row: Sequence[Any]) -> Plan:
    values = list(row)
    for index in _PLAN_DOCUMENTS:
        if values[index] is not None:
            values[index] = json.loads(values[index])
    return stored(Plan, PLAN_COLUMNS, values)


def tasks_at(raw: psycopg.Cursor[Row], places: Iterable[tuple[int, int, int]]) -> list[Task]:
    """Tasks by (plan id, node, element); what does not exist is left out."""
    wanted = sorted(places)
    if not wanted:
        return []
    raw.execute(_TASKS_AT, arrays(wanted), prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]


def tasks_by_id(raw: psycopg.Cursor[Row], task_ids: Iterable[int]) -> list[Task]:
    """Tasks by id; what does not exist is left out."""
    raw.execute(_TASKS_BY_ID, [array(sorted(task_ids))], prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]


def tasks_by_plan(raw: psycopg.Cursor[Row], plan_ids: Iterable[int]) -> list[Task]:
    """Every task of these plans that counts."""
    raw.execute(_TASKS_BY_PLAN, [array(sorted(plan_ids))], prepare=True)
    return [task_from_row(row) for row in raw.fetchall()]
