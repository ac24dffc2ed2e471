"""The same submission from many threads at once: one order, whatever the timing."""

from __future__ import annotations

import threading
from typing import Any

from django.db import connection

from oms.models import Order
from tests.api import Api, a_workflow, an_order
from tests.desk import ScriptedSystems


def test_ten_requests_with_one_key_at_once_create_one_order(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    a_workflow()
    api = Api()
    answers = _at_once(10, lambda: api.post(an_order(), Idempotency_Key="k"))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Order.objects.count() == 1


def test_ten_requests_without_a_key_create_one_order_and_nine_conflicts(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    a_workflow()
    api = Api()
    answers = _at_once(10, lambda: api.post(an_order()))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert Order.objects.count() == 1


def _at_once(count: int, request: Any) -> list[Any]:
    answers: list[Any] = []
    together = threading.Barrier(count)

    def one() -> None:
        together.wait()
        try:
            answers.append(request())
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers
