"""The same request from many threads at once: done once, whatever the timing."""

from __future__ import annotations

from fulfillment.models import Hold, Operation
from oms.models import Order
from tests.api import Api, a_workflow, an_order
from tests.desk import ScriptedSystems
from tests.together import together


def test_ten_requests_with_one_key_at_once_create_one_order(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    a_workflow()
    api = Api()
    answers = together(*[lambda: api.post(an_order(), Idempotency_Key="k")] * 10)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Order.objects.count() == 1


def test_ten_requests_without_a_key_create_one_order_and_nine_conflicts(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    a_workflow()
    api = Api()
    answers = together(*[lambda: api.post(an_order())] * 10)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 9
    assert Order.objects.count() == 1


def test_ten_requests_with_one_key_at_once_place_one_hold(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    a_workflow()
    api = Api()
    path = f"/orders/{api.post(an_order()).json()['id']}/holds"
    body = {"scope": "order", "reason": "The address is being clarified."}
    answers = together(*[lambda: api.send("POST", path, body, Idempotency_Key="k")] * 10)
    assert {answer.status_code for answer in answers} == {201}
    (hold,) = Hold.objects.all()
    assert {answer.json()["id"] for answer in answers} == {hold.pk}
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Operation.objects.count() == 1
