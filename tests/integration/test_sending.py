"""The drain when threads or the broker fail it, and the outbox when it is long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fulfillment.engine.dispatch import sending
from fulfillment.engine.dispatch.slots import Slots
from fulfillment.engine.outbound import outbox
from fulfillment.models import OutboxEvent
from tests import desk
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


class _OneThread(ThreadPoolExecutor):
    """Takes one call and then can't start another thread."""

    calls = 0

    def submit(self, *args: Any, **more: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("can't start new thread")
        return super().submit(*args, **more)


def test_a_drain_that_gets_no_more_threads_settles_what_it_has_sent_and_ends(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    orders = [desk.order() for _ in range(3)]
    monkeypatch.setattr(desk._ScriptedAdapter, "in_process", False)
    with _OneThread(1) as threads:
        monkeypatch.setattr(Slots, "_threads_for", lambda *_: threads)
        assert sending.drain(target="alpha") == 1
    states = [desk.states_of(order)["one@1"] for order in orders]
    # The two that were not sent wait for their leases to end, and are then asked for.
    assert sorted(states) == ["DISPATCHED", "DISPATCHED", "SUCCEEDED"]


def test_the_whole_outbox_is_published_whatever_the_batch(
    systems: ScriptedSystems, redis_url: str
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    desk.submit_all(*[desk.request() for _ in range(5)])
    written = OutboxEvent.objects.count()
    assert outbox.publish_events(limit=2) == written >= 5
    assert not OutboxEvent.objects.filter(published_at=None).exists()
