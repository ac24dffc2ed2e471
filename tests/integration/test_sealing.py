"""Seals: made over what is final, once, with the key of today; old keys are still believed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test import override_settings

from fulfillment.audit import keys, logs, sealing, seals
from fulfillment.audit.sealing import seal_new
from fulfillment.audit.verifying import verify
from fulfillment.models import (
    Approval,
    AuditSeal,
    AuthorityDecision,
    Command,
    Operation,
    SealedRow,
    Transition,
)
from fulfillment.tasks import seal_audit
from tests import desk
from tests.crowd import rows_read
from tests.desk import ScriptedSystems
from tests.together import together

OLD = django_settings.OMS_AUDIT_KEYS[0]
NEW = "the-key-that-comes-after-the-first-one"


def orders(count: int) -> None:
    for _ in range(count):
        desk.order()
    desk.drain()


@pytest.fixture
def selling(committed_db: str, redis_url: str, systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})


def found() -> list[str]:
    return [str(one) for one in verify()]


@pytest.mark.usefixtures("selling")
def test_what_is_new_is_sealed_once() -> None:
    assert seal_new() is None
    orders(2)
    assert seal_audit() == 1
    assert seal_audit() == 0
    orders(1)
    assert seal_audit() == 2
    assert SealedRow.objects.filter(of=2, kind="chain").count() == 1
    assert found() == []


@pytest.mark.usefixtures("selling")
def test_sealers_that_begin_together_make_one_chain() -> None:
    orders(5)
    made = together(*[seal_new] * 6)
    assert sum(one is not None for one in made) >= 1
    assert AuditSeal.objects.count() == 1
    assert found() == []


@pytest.mark.usefixtures("selling")
def test_nothing_is_sealed_past_what_somebody_still_writes(
    committed_db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_PAUSES_SECONDS", (0.0, 0.0))
    with psycopg.connect(committed_db) as slow:
        slow.execute(
            "INSERT INTO fulfillment_operation (kind, subject, actor, reason, before, after, "
            "happened_at) VALUES ('x', 'x', 'x', 'x', '{}', '{}', now())"
        )
        orders(1)  # Its rows have higher numbers where they share a table, and are committed.
        assert seal_new() is None
        slow.commit()
    assert seal_new() is not None
    assert SealedRow.objects.filter(kind="operation").count() == 1
    assert found() == []


@pytest.mark.usefixtures("selling")
def test_what_was_rolled_back_leaves_a_gap_that_is_no_fault(committed_db: str) -> None:
    with psycopg.connect(committed_db) as gone:
        gone.execute(
            "INSERT INTO fulfillment_operation (kind, subject, actor, reason, before, after, "
            "happened_at) VALUES ('x', 'x', 'x', 'x', '{}', '{}', now())"
        )
        gone.rollback()
    orders(1)
    assert seal_new() is not None
    assert found() == []


@pytest.mark.usefixtures("selling")
def test_a_first_seal_is_many_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tuple(replace(log, most=10) for log in logs.LOGS)
    monkeypatch.setattr(sealing, "LOGS", small)
    orders(6)
    last = seal_new()
    assert last is not None
    assert last.number == AuditSeal.objects.count() == 8
    assert found() == []


@pytest.mark.usefixtures("selling")
def test_the_key_is_changed_and_the_old_one_still_believed() -> None:
    orders(1)
    seal_new()
    orders(1)
    with override_settings(OMS_AUDIT_KEYS=(NEW, OLD)):
        seal_new()
        assert found() == []
    made_with = AuditSeal.objects.order_by("number").values_list("key_id", flat=True)
    assert list(made_with) == [keys.key_id(OLD), keys.key_id(NEW)]
    with override_settings(OMS_AUDIT_KEYS=(NEW,)):
        (fault,) = found()
    assert f"made with the key {keys.key_id(OLD)}, which OMS_AUDIT_KEY does not hold" in fault


@pytest.mark.usefixtures("selling")
def test_sealing_reads_what_is_new_alone() -> None:
    orders(40)
    seal_new()
    orders(1)
    rows = Transition.objects.count()
    read = rows_read(seal_new)
    of_trails = [count for name, count in read.items() if name.startswith("fulfillment_transi")]
    assert of_trails
    assert max(of_trails) < rows / 4


@pytest.mark.usefixtures("selling")
def test_many_seals_are_verified_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seals, "_AT_ONCE", 2)
    for _ in range(5):
        orders(1)
        seal_new()
    told: list[str] = []
    assert list(verify(progress=told.append)) == []
    assert told == ["seal 2", "seal 4", "seal 5"]


@pytest.mark.parametrize(
    ("kind", "model"),
    [("commands", Command), ("operation", Operation), ("decision", AuthorityDecision)],
)
def test_every_column_is_sealed(kind: str, model: Any) -> None:
    (log,) = [one for one in logs.LOGS if one.kind == kind]
    assert names(log.columns) == {field.column for field in model._meta.concrete_fields} - {"id"}


def test_every_column_of_an_approval_is_sealed() -> None:
    columns = {field.column for field in Approval._meta.concrete_fields}
    assert names(logs.APPROVAL_COLUMNS) == columns


def names(columns: tuple[str, ...]) -> set[str]:
    return {one.removeprefix("extract(epoch FROM ").rstrip(")") for one in columns}


@pytest.mark.django_db
def test_the_database_does_not_know_the_key() -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.order()
    seal = seal_new()
    assert seal is not None
    with connection.cursor() as raw:
        raw.execute("SELECT a::text FROM fulfillment_auditseal a")
        (row,) = raw.fetchall()
    assert OLD not in row[0]
