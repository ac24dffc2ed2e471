"""Several people repair the same task at the same moment: one wins, the others are told."""

from __future__ import annotations

from collections.abc import Callable

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.errors import ApprovalNotOpen, NotPossible
from fulfillment.models import Approval, Operation, Task, Transition
from fulfillment.states import TaskState
from oms.models import Order
from tests import desk, people, repairs
from tests.desk import ScriptedSystems
from tests.together import together

WAIVED = TaskState.WAIVED_BY_AUTHORIZED_USER
_REPAIRS = ("waive", "leave_out", "try_again", "send_anew", "confirm")


def a_failed_task(systems: ScriptedSystems) -> tuple[Order, Task]:
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"n": 1}), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected()]
    order = desk.order()
    desk.finish()
    return order, desk.tasks_of(order)["one@1"]


def told(work: Callable[[], object]) -> Callable[[], str]:
    """What whoever comes too late is told; empty for whoever has done it."""

    def run() -> str:
        try:
            work()
        except (NotPossible, ApprovalNotOpen) as error:
            return str(error)
        return ""

    return run


def approving(approval: Approval) -> Callable[[], str]:
    sarah = people.senior()
    return told(lambda: operations.approve(approval_id=approval.pk, actor=sarah, reason="I agree."))


def retrying(task: Task, name: str) -> Callable[[], str]:
    actor = people.anybody(name, Action.TASK_RETRY)
    return told(lambda: operations.retry(task_id=task.pk, actor=actor, reason="again"))


def repaired_once(order: Order, answers: list[str]) -> None:
    assert answers.count("") == 1
    assert all(
        "one@1" in answer or "task:" in answer or "pproval" in answer
        for answer in answers
        if answer
    )
    assert Transition.objects.filter(entity="task", name__in=_REPAIRS).count() == 1
    made = ("waive", "skip", "retry", "correct", "reconcile")
    assert Operation.objects.filter(kind__in=made).count() == 1
    repairs.sound(order)


def test_of_those_who_waive_skip_correct_and_retry_one_wins(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    order, task = a_failed_task(systems)
    asked = [
        repairs.ask(Action.TASK_WAIVE, task, by="rita"),
        repairs.ask(Action.TASK_SKIP, task, by="ruth"),
        repairs.ask(Action.TASK_CORRECT, task, by="rosa", patch={"n": 2}),
    ]
    answers = together(
        *map(approving, asked), retrying(task, "tim"), retrying(task, "tom"), retrying(task, "ted")
    )
    repaired_once(order, answers)
    desk.finish()
    order.refresh_from_db()
    assert order.state == "COMPLETED"
    repairs.sound(order)


def test_an_approval_is_used_once(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    order, task = a_failed_task(systems)
    approval = repairs.ask(Action.TASK_WAIVE, task)
    answers = together(*[approving(approval) for _ in range(6)])
    repaired_once(order, answers)
    approval.refresh_from_db()
    assert approval.state == "EXECUTED"
    assert desk.states_of(order)["one@1"] == WAIVED


def test_a_person_who_says_it_happened_and_one_who_says_it_did_not(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    """Whoever is first is believed; nothing is sent for what has happened."""
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.unknown()]
    order = desk.order()
    desk.drain()
    task = desk.tasks_of(order)["one@1"]
    answers = together(
        approving(repairs.ask(Action.TASK_RECONCILE, task, by="rita", happened=True)),
        approving(repairs.ask(Action.TASK_RECONCILE, task, by="ruth", happened=False)),
    )
    repaired_once(order, answers)
    desk.finish()
    happened = Transition.objects.filter(entity="task", name="confirm").exists()
    assert len(systems.sent) == (1 if happened else 2)


def test_a_worker_and_whoever_waives_what_is_about_to_be_sent(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    """Either it is sent, or it is waived."""
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    task = desk.tasks_of(order)["one@1"]
    waive = approving(repairs.ask(Action.TASK_WAIVE, task))
    answer, claims = together(waive, desk.claim)
    state = desk.states_of(order)["one@1"]
    assert (bool(claims), state) in ((False, WAIVED), (True, TaskState.DISPATCHED))
    assert bool(answer) == bool(claims)
    repairs.sound(order)


def test_twenty_operators_repair_the_same_orders(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    """Retried, waived, skipped and corrected while workers send, all at once: one wins for each
    task, and the others are told what has changed."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(input={"n": 1}), "two": desk.task(after=["one"])})
    systems.sends["one"] = [desk.rejected()] * 4
    orders = [desk.order() for _ in range(4)]
    desk.finish()
    works: list[Callable[[], str]] = []
    for number, order in enumerate(orders):
        task = desk.tasks_of(order)["one@1"]
        waive = repairs.ask(Action.TASK_WAIVE, task, by=f"w{number}")
        skip = repairs.ask(Action.TASK_SKIP, task, by=f"s{number}")
        correct = repairs.ask(Action.TASK_CORRECT, task, by=f"c{number}", patch={"n": 2})
        works += [*map(approving, (waive, skip, correct)), retrying(task, f"r{number}")]
    works += [lambda: str(desk.drain(["alpha"]) and "") for _ in range(4)]
    assert len(works) == 20
    together(*works)
    desk.finish()
    for order in orders:
        order.refresh_from_db()
        assert order.state == "COMPLETED"
        moved = Transition.objects.filter(
            fulfillment_id=order.fulfillment_id, entity="task", name__in=_REPAIRS
        )
        assert moved.count() == 1
        repairs.sound(order)
    made = ("waive", "skip", "retry", "correct")
    assert Operation.objects.filter(kind__in=made).count() == len(orders)
    executed = Approval.objects.filter(state="EXECUTED").count()
    assert executed + Operation.objects.filter(kind="retry").count() == len(orders)
    sent = [command.idempotency_key for command in systems.sent]
    assert len(sent) == len(set(sent))
