"""The case of a parked report ends with its task."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment.engine.dispatch import callbacks
from fulfillment.models import FalloutCase
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db

Clock = Callable[[float], None]


def test_a_report_that_could_not_be_applied_does_not_keep_its_case_for_ever(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha", asynchronous=True)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()

    def report(event_id: str) -> callbacks.Report:
        return callbacks.Report(
            source="alpha",
            event_id=event_id,
            idempotency_key=systems.sent[0].idempotency_key,
            outcome=desk.succeeded(),
            body={},
        )

    with monkeypatch.context() as patched:
        patched.setattr(callbacks, "apply", lambda unit, results: 1 / 0)
        assert callbacks.receive(report=report("e1")).disposition == "UNMATCHED"
    assert callbacks.receive(report=report("e2")).disposition == "APPLIED"
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"
    assert not FalloutCase.objects.filter(state="OPEN").exists()
