"""A target that has been asked is believed, also when it must be asked first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_target_that_says_when_asked_that_nothing_happened_gets_it_again(
    systems: ScriptedSystems, clock: Clock
) -> None:
    desk.target("alpha")
    desk.workflow(
        {
            "one": desk.task(
                retry={"reconcile_first": True, "retryable": ["busy"], "maximum_attempts": 5}
            )
        }
    )
    systems.sends["one"] = [desk.failed("busy")]
    systems.queries["one"] = [desk.failed("busy", retryable=False)] * 5
    order = desk.order()
    for _ in range(5):
        desk.drain()
        clock(120)
    assert len(systems.sent) == 2
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"
