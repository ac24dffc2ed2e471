"""The unit of work: run again when that is safe, and never once it has committed."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection, transaction

from fulfillment.engine.store import targets
from fulfillment.engine.work.running import run_unit
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ConcurrentChange
from fulfillment.models import Fulfillment, Transition
from tests import desk
from tests.together import together

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


@pytest.fixture
def fulfillment(committed_db: str) -> Fulfillment:
    return Fulfillment.objects.create(order_reference="O-0", correlation_id="c")


def note(unit: Unit) -> None:
    """One audit row, so that it shows how often the unit took effect."""
    (locked,) = unit.fulfillments.values()
    unit.record(
        fulfillment_id=locked.id,
        entity="plan",
        entity_id="0",
        name="note",
        before="",
        after="",
        cause="a test",
    )


def test_a_unit_runs_again_when_a_row_changed_underneath(fulfillment: Fulfillment) -> None:
    runs = []

    def work(unit: Unit) -> int:
        note(unit)
        runs.append(1)
        if len(runs) < 3:
            raise ConcurrentChange("a test")
        return len(runs)

    assert run_unit(work, fulfillment_ids=[fulfillment.pk], actor="a test") == 3
    assert Transition.objects.count() == 1


def test_a_unit_runs_again_when_its_connection_is_cut(fulfillment: Fulfillment) -> None:
    runs = []

    def work(unit: Unit) -> None:
        note(unit)
        runs.append(1)
        if len(runs) == 1:
            pid = unit.raw.connection.info.backend_pid
            with pytest.raises(OperationalError):
                unit.raw.execute("SELECT pg_terminate_backend(%s)", [pid])
            raise OperationalError("cut")

    run_unit(work, fulfillment_ids=[fulfillment.pk], actor="a test")
    assert len(runs) == 2
    assert Transition.objects.count() == 1


def test_an_error_of_the_work_is_not_repeated(fulfillment: Fulfillment) -> None:
    runs = []

    def work(unit: Unit) -> None:
        note(unit)
        runs.append(1)
        raise ValueError("a test")

    with pytest.raises(ValueError, match="a test"):
        run_unit(work, fulfillment_ids=[fulfillment.pk], actor="a test")
    assert len(runs) == 1
    assert not Transition.objects.exists()


def test_a_unit_that_has_committed_does_not_run_again(fulfillment: Fulfillment) -> None:
    desk.target("alpha")
    runs = []

    def cut() -> None:
        targets.forget()
        connection.connection.close()

    def work(unit: Unit) -> None:
        note(unit)
        unit.hint(target="alpha")
        transaction.on_commit(cut)
        runs.append(1)

    run_unit(work, fulfillment_ids=[fulfillment.pk], actor="a test")
    assert len(runs) == 1
    connection.close()
    assert Transition.objects.count() == 1


def test_a_fulfillment_is_locked_until_its_unit_ends(fulfillment: Fulfillment) -> None:
    def lock() -> int:
        with transaction.atomic():
            return Fulfillment.objects.select_for_update(nowait=True).get().pk

    def work(unit: Unit) -> None:
        assert list(unit.fulfillments) == [fulfillment.pk]
        with pytest.raises(OperationalError, match="could not obtain lock"):
            together(lock)

    run_unit(work, fulfillment_ids=[fulfillment.pk], actor="a test")
    assert together(lock) == [fulfillment.pk]
