"""Celery as a courier: what its settings promise, seen on a real Redis."""

from __future__ import annotations

import json

import celery
import pytest
from celery.exceptions import QueueNotFound

from fulfillment.engine.work import hints
from tests import desk
from tests.api import Api, a_workflow, an_order
from tests.desk import ScriptedSystems

RUN = "fulfillment.tasks.run_commands"


def waiting_in(queue: str) -> list[dict[str, object]]:
    with celery.current_app.connection_for_read() as connection:
        return [json.loads(raw) for raw in connection.default_channel.client.lrange(queue, 0, -1)]


def test_a_flushed_redis_delivers_the_next_message(redis_url: str) -> None:
    with celery.current_app.connection_for_write() as connection:
        celery.current_app.send_task(RUN, kwargs={"target": "billing"}, queue="billing")
        connection.default_channel.client.flushdb()
        celery.current_app.send_task(RUN, kwargs={"target": "billing"}, queue="billing")
        assert len(waiting_in("billing")) == 1
        assert connection.default_channel.client.keys("_kombu.binding.*") == []


def test_an_undeclared_queue_fails_loudly(redis_url: str) -> None:
    with pytest.raises(QueueNotFound):
        celery.current_app.send_task(RUN, kwargs={"target": "billing"}, queue="biling")


def test_every_tick_goes_to_orchestration_and_expires() -> None:
    for tick in celery.current_app.conf.beat_schedule.values():
        assert tick["options"]["queue"] == "orchestration"
        assert 0 < tick["options"]["expires"] <= 60


def test_every_tick_is_a_task_that_workers_know() -> None:
    celery.current_app.loader.import_default_modules()
    ticks = {tick["task"] for tick in celery.current_app.conf.beat_schedule.values()}
    assert ticks <= set(celery.current_app.tasks)


def test_messages_are_json_and_acknowledged_early() -> None:
    configuration = celery.current_app.conf
    assert configuration.accept_content == ["json"]
    assert configuration.worker_disable_prefetch
    assert not configuration.task_acks_late
    assert configuration.task_ignore_result


def test_an_order_is_taken_in_while_the_broker_is_away(
    committed_db: str, broker_away: None, systems: ScriptedSystems
) -> None:
    a_workflow()
    systems.sends["one"] = [desk.succeeded(number="N-1")]
    assert Api().post(an_order()).status_code == 201
    assert desk.drain() == 2  # as the scanner will find it


def test_a_broker_that_is_away_is_not_asked_time_and_again(broker_away: None) -> None:
    hints.nudge(task=RUN, queue="billing", target="billing")
    pause = hints._away_until
    assert pause > 0
    hints.nudge(task=RUN, queue="billing", target="billing")
    assert hints._away_until == pause
