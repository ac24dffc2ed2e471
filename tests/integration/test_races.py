"""Several at once: threads with connections of their own on committed data."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction

from fulfillment.engine.dispatch import callbacks, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning
from fulfillment.models import (
    Attempt,
    Command,
    Disposition,
    Fulfillment,
    InboundEvent,
    Plan,
    Task,
    Transition,
)
from oms.intake.submission import Disposition as Submission
from oms.models import Order
from tests import desk
from tests.by_force import like_a_unit
from tests.desk import ScriptedSystems
from tests.together import closing, together
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url")


def somebody_waits_for_me() -> bool:
    """Whether another connection waits for a lock that this thread's transaction holds."""
    with connection.cursor() as raw:
        raw.execute(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted "
            "AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(raw.fetchone()[0])


def test_two_claims_never_take_the_same_task(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({name: desk.task() for name in "abcdef"})
    desk.submit_all(*(desk.request() for _ in range(10)))

    def claim_all() -> list[Claim]:
        mine: list[Claim] = []
        while claims := desk.claim(limit=7):
            mine += claims
        return mine

    taken = [claim.task_id for claims in together(*[claim_all] * 4) for claim in claims]
    assert len(taken) == len(set(taken)) == 60
    assert Attempt.objects.count() == 60
    assert set(Task.objects.values_list("state", "attempts")) == {("DISPATCHED", 1)}


def test_two_drains_send_every_command_once(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "a": desk.task("alpha"),
            "b": desk.task("beta"),
            "c": desk.task("alpha", after=["a", "b"]),
            "d": desk.task("beta", after=["c"]),
        }
    )
    desk.submit_all(*(desk.request() for _ in range(15)))
    together(*[desk.drain] * 4)
    desk.drain()
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}
    assert len(systems.sent) == 60
    assert set(Counter(command.idempotency_key for command in systems.sent).values()) == {1}


def test_two_scanners_select_everything_once(systems: ScriptedSystems, settings: Any) -> None:
    settings.OMS_FAST_PATH = False
    desk.target("alpha")
    desk.workflow({"a": desk.task(), "b": desk.task(after=["a"])})
    desk.submit_all(*(desk.request() for _ in range(20)))
    assert Command.objects.count() == 0
    together(*[scanning.scan] * 3)
    assert Command.objects.count() == 20
    assert Transition.objects.filter(name="make_ready").count() == 20
    assert not Plan.objects.filter(selection_due_at__isnull=False).exists()


def test_the_same_external_id_at_the_same_moment_makes_one_order() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task()})
    desk.client()
    submit = partial(desk.submit_all, desk.request(external_id="X-same"))
    answers = [answer for answers in together(*[submit] * 4) for answer in answers]
    assert Order.objects.count() == Fulfillment.objects.count() == Plan.objects.count() == 1
    assert Counter(answer.disposition for answer in answers) == {
        Submission.CREATED: 1,
        Submission.DUPLICATE: 3,
    }
    assert len({answer.reference for answer in answers}) == 1


def test_batches_that_share_orders_in_another_sequence_make_each_once() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task()})
    desk.client()
    requests = [desk.request() for _ in range(20)]
    together(partial(desk.submit_all, *requests), partial(desk.submit_all, *reversed(requests)))
    assert Order.objects.count() == Plan.objects.count() == 20


def a_report(claim: Claim, event_id: str, outcome: desk.Outcome) -> callbacks.Report:
    return callbacks.Report(
        source="alpha",
        event_id=event_id,
        idempotency_key=claim.command.idempotency_key,
        outcome=outcome,
        body={},
    )


def test_an_answer_and_a_callback_at_the_same_moment_settle_the_task_once() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task(), "b": desk.task(after=["a"])})
    desk.submit_all(*(desk.request() for _ in range(8)))
    claims = desk.claim(limit=8)
    for claim in claims:
        report = a_report(claim, f"E-{claim.task_id}", desk.succeeded())
        together(
            partial(desk.settle, desk.result(claim, desk.succeeded())),
            partial(callbacks.receive, report=report),
        )
    assert Transition.objects.filter(name="succeed").count() == 8
    assert Command.objects.filter(action="b").count() == 8
    dispositions = set(InboundEvent.objects.values_list("disposition", flat=True))
    assert dispositions <= {Disposition.APPLIED, Disposition.REDUNDANT}
    assert not Transition.objects.filter(name="conflicting_outcome").exists()


def test_the_same_event_in_two_threads_at_once_moves_its_task_once() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task()})
    desk.order()
    (claim,) = desk.claim()
    receive = partial(callbacks.receive, report=a_report(claim, "E-1", desk.succeeded()))
    receipts = together(*[receive] * 4)
    assert Counter(receipt.duplicate for receipt in receipts) == {False: 1, True: 3}
    assert {receipt.disposition for receipt in receipts} == {Disposition.APPLIED}
    assert InboundEvent.objects.count() == 1
    assert Transition.objects.filter(name="succeed").count() == 1


def test_the_same_unmatched_event_in_two_threads_at_once_is_parked_once() -> None:
    desk.target("alpha")
    report = callbacks.Report(
        source="alpha", event_id="E-1", idempotency_key="?", outcome=desk.succeeded(), body={}
    )
    receipts = together(*[partial(callbacks.receive, report=report)] * 4)
    assert Counter(receipt.duplicate for receipt in receipts) == {False: 1, True: 3}
    assert InboundEvent.objects.get().disposition == Disposition.UNMATCHED


def test_the_same_unreadable_reply_in_four_threads_at_once_is_parked_once() -> None:
    park = partial(
        callbacks.park,
        source="alpha",
        event_id="unreadable 1",
        idempotency_key="?",
        body={"reason": "not usable JSON"},
    )
    together(*[park] * 4)
    parked = InboundEvent.objects.get()
    assert (parked.disposition, parked.body) == ("UNMATCHED", {"reason": "not usable JSON"})
    assert parked.suggestions == []


def test_the_sweeper_yields_to_an_answer_that_came_while_it_waited_for_the_lock() -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"a": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    Attempt.objects.update(lease_expires_at=desk.now() - timedelta(seconds=1))
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Fulfillment.objects.select_for_update().get()
            sweep = threads.submit(closing(sweeping.sweep))
            until(somebody_waits_for_me)
            desk.settle(desk.result(claim, desk.accepted()))
        assert sweep.result(timeout=30) == 1
    assert desk.states_of(order) == {"a@1": "ACCEPTED"}


def test_the_sweeper_leaves_a_new_attempt_alone_that_began_while_it_waited_for_the_lock() -> None:
    desk.target("alpha", idempotent=False, status_query=False)
    desk.workflow({"a": desk.task()})
    order = desk.order()
    (claim,) = desk.claim()
    desk.settle(desk.result(claim, desk.accepted()))
    past = desk.now() - timedelta(seconds=1)
    Task.objects.update(not_before=past)
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Fulfillment.objects.select_for_update().get()
            sweep = threads.submit(closing(sweeping.sweep))
            until(somebody_waits_for_me)
            report = a_report(claim, "E-1", desk.failed(retry_after=timedelta(hours=1)))
            callbacks.receive(report=report)
            Task.objects.update(not_before=past)
            assert len(desk.claim()) == 1
        assert sweep.result(timeout=30) == 1
    assert desk.states_of(order) == {"a@1": "DISPATCHED"}


def test_a_claim_leaves_out_what_was_settled_while_it_waited_for_the_lock() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task()})
    order = desk.order()
    (first,) = desk.claim()
    desk.settle(desk.result(first, desk.unknown()))  # may be asked about at once
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Fulfillment.objects.select_for_update().get()
            claims = threads.submit(closing(desk.claim))
            until(somebody_waits_for_me)
            desk.settle(desk.result(first, desk.succeeded()))
        assert claims.result(timeout=30) == []
    assert desk.states_of(order) == {"a@1": "SUCCEEDED"}
    assert Attempt.objects.count() == 1


def test_a_claim_leaves_out_a_plan_that_was_superseded_while_it_waited_for_the_lock() -> None:
    desk.target("alpha")
    desk.workflow({"a": desk.task()})
    order = desk.order()
    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            Fulfillment.objects.select_for_update().get()
            claims = threads.submit(closing(desk.claim))
            until(somebody_waits_for_me)
            like_a_unit()
            Plan.objects.update(state="SUPERSEDED")
        assert claims.result(timeout=30) == []
    assert desk.states_of(order) == {"a@1": "READY"}
    assert not Attempt.objects.exists()
