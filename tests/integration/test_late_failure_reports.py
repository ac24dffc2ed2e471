"""A report of a failure is believed of the only send, whatever the counts say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment.engine.dispatch import callbacks
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_failure_that_may_be_of_the_send_that_was_lost_sends_nothing_again(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha", asynchronous=True, idempotent=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown(), desk.accepted()]
    systems.queries["one"] = [desk.not_found()]  # The first is still on its way.
    order = desk.order()
    for _ in range(3):
        desk.drain()
        clock(5)
    assert desk.states_of(order)["one@1"] == "ACCEPTED"
    callbacks.receive(
        report=callbacks.Report(
            source="alpha",
            event_id="e1",
            idempotency_key=systems.sent[0].idempotency_key,
            outcome=desk.failed(),
            body={},
        )
    )
    assert desk.states_of(order)["one@1"] == "OUTCOME_UNKNOWN"
