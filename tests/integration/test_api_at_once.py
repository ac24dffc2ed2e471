"""The same request from many threads at once: done once, whatever the timing."""

from __future__ import annotations

from typing import Any

from fulfillment.models import Hold, ManualTask, Operation, Signal
from oms.models import Order
from tests import desk
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


def _undecided() -> str:
    """Where the decision of a manual task is sent; its order waits for a milestone as well."""
    manual = {
        "queue": "approvals",
        "role": "manager",
        "instructions": "Look at it.",
        "outcomes": {"approved": "proceed", "rejected": "refuse"},
        "within": "P2D",
        "otherwise": "escalate",
    }
    wait = {"milestone": "paid", "within": "P2D", "otherwise": "escalate"}
    desk.target("alpha")
    desk.workflow({"approve": desk.step(manual=manual), "pay": desk.step(wait=wait)})
    desk.order()
    return f"/manual-tasks/{ManualTask.objects.get().pk}/decision"


def test_of_ten_who_decide_at_once_one_does_and_the_others_are_told(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    path, api = _undecided(), Api()

    def decide(outcome: str) -> Any:
        return api.send("POST", path, {"outcome": outcome, "reason": "Because."})

    answers = together(*[lambda: decide("approved"), lambda: decide("rejected")] * 5)
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    outcome = ManualTask.objects.get().outcome
    told = [answer.json() for answer in answers]
    assert {one["outcome"] for one in told if "outcome" in one} == {outcome}
    assert {one["decision"]["outcome"] for one in told if "decision" in one} == {outcome}
    assert Operation.objects.count() == 1


def test_ten_decisions_with_one_key_at_once_are_one(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    path, api = _undecided(), Api()
    body = {"outcome": "approved", "reason": "Because."}
    answers = together(*[lambda: api.send("POST", path, body, Idempotency_Key="k")] * 10)
    assert {answer.status_code for answer in answers} == {200}
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Operation.objects.count() == 1


def test_ten_reports_of_one_milestone_at_once_count_once(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    _undecided()
    order, api = Order.objects.get(), Api()
    path = f"/orders/{order.reference}/milestones"
    body = {"name": "paid", "event_id": "e-1"}
    answers = together(*[lambda: api.send("POST", path, body)] * 10)
    assert {answer.status_code for answer in answers} == {202}
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    assert Signal.objects.count() == 1
    assert desk.states_of(order)["pay@1"] == "SUCCEEDED"
