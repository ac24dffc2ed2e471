"""The breaker judges the target system by its own answers only."""

from __future__ import annotations

import pytest

from fulfillment.engine.tasks import outcomes
from fulfillment.models import TargetCondition
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


def test_what_was_not_sent_does_not_open_the_breaker(systems: ScriptedSystems) -> None:
    desk.target("alpha", breaker_failures=2)
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(3)])
    for claim in desk.claim(limit=3):
        desk.settle_call(claim, outcomes.NOT_SENT)
    condition = TargetCondition.objects.get(target_id="alpha")
    assert (condition.breaker, condition.failures_in_a_row) == ("CLOSED", 0)
