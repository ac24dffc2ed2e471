"""A report says which key it is about, not which send: a late one proves nothing about the last."""

from __future__ import annotations

import pytest

from fulfillment.engine.dispatch import callbacks, sending, sweeping
from fulfillment.engine.dispatch.callbacks import Report
from fulfillment.models import Command
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed_and_asked(systems: ScriptedSystems) -> Order:
    """Its first send was accepted and failed; the report was late, so we asked, and go on."""
    desk.target("alpha", idempotent=False, asynchronous=True)
    desk.workflow({"one": desk.task(timeouts={"callback": "PT45S"})})
    systems.sends["one"] = [desk.accepted(), desk.accepted()]
    systems.queries["one"] = [desk.failed("job_failed")]
    order = desk.order()
    desk.drain()
    desk.advance(60)
    sweeping.sweep()
    desk.drain()
    desk.advance(60)
    return order


def the_late_report_comes() -> None:
    callbacks.receive(
        report=Report(
            source="alpha",
            event_id="E-1",
            idempotency_key=Command.objects.get().idempotency_key,
            outcome=desk.failed("job_failed"),
            body={},
        )
    )


def test_a_late_failure_does_not_repeat_what_the_target_works_on(
    systems: ScriptedSystems, failed_and_asked: Order
) -> None:
    desk.drain()
    assert desk.states_of(failed_and_asked) == {"one@1": "ACCEPTED"}
    the_late_report_comes()
    desk.advance(60)
    desk.drain()
    assert len(systems.sent) == 2


def test_a_late_failure_does_not_repeat_what_is_on_the_wire(
    systems: ScriptedSystems, failed_and_asked: Order
) -> None:
    """Until the second send has arrived, the target can only tell about the first."""
    (second,) = desk.claim()
    the_late_report_comes()
    systems.queries["one"] = [desk.failed("job_failed")]
    desk.advance(5)  # within the call's deadline
    desk.drain()
    desk.advance(5)
    desk.drain()
    assert desk.states_of(failed_and_asked) == {"one@1": "DISPATCHED"}
    assert len(systems.sent) == 1

    outcome = sending.call(
        adapter=sending.targets.adapter_for(desk.TargetSystem.objects.get()), claim=second
    )
    desk.settle(desk.result(second, outcome))
    assert desk.states_of(failed_and_asked) == {"one@1": "ACCEPTED"}
    assert len(systems.sent) == 2
