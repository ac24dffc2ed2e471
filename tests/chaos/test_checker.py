"""The checker finds what it is there to find: bugs planted in the engine, or in its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fulfillment.engine.dispatch import claiming, sending
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.work import unit
from fulfillment.models import Task
from oms.models import Order
from tests import desk
from tests.chaos import checker
from tests.chaos.books import KeepingBooks, Run, books


@pytest.fixture
def run(books_run: Run) -> Run:
    desk.workflow(
        {
            "one": desk.task("crm"),
            "two": desk.task("payment", after=["one"]),
            "three": desk.task("inventory", after=["two"]),
        }
    )
    return books_run


def test_a_run_with_trouble_on_the_way_breaks_nothing(run: Run, systems: Any) -> None:
    systems.sends["one"] = [desk.failed("not_done"), desk.unknown(), desk.succeeded()]
    systems.sends["two"] = [desk.unknown("not_done"), desk.succeeded()]
    systems.queries["one"] = [desk.unknown(), desk.succeeded()]
    systems.queries["two"] = [desk.not_found()]
    for _ in range(3):
        run.order()
    for _ in range(8):
        desk.drain()
        assert run.broken(at_the_end=False) == set()
        desk.advance(120)
    run.finish()
    assert set(Order.objects.values_list("state", flat=True)) == {"COMPLETED"}
    assert run.violations() == []


def test_a_new_key_for_each_retry(run: Run, systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = claiming._claimed

    def with_a_new_key(*arguments: Any) -> Claim:
        claim = claimed(*arguments)
        key = f"{claim.command.idempotency_key[:-2]}{claim.command.attempt:02}"
        return replace(claim, command=replace(claim.command, idempotency_key=key))

    monkeypatch.setattr(claiming, "_claimed", with_a_new_key)
    systems.sends["one"] = [desk.unknown()]
    systems.queries["one"] = [desk.not_found()]
    run.order()
    for _ in range(4):
        desk.drain()
        desk.advance(60)
    run.finish()
    assert "one-effect-per-key" in run.broken()
    assert "one-effect-per-key" in run.broken(at_the_end=False)


def test_the_compare_and_set_removed(run: Run) -> None:
    """The second worker's claim finds the task as it was before the first one's."""
    run.order()
    desk.drain(["crm"])
    task = Task.objects.get(key="two@1")
    (first,) = desk.claim("payment", worker="one")
    assert Task.objects.get(pk=task.pk).state == "DISPATCHED"
    run.as_owner(f"UPDATE fulfillment_task SET state = 'READY' WHERE id = {task.pk}")
    (second,) = desk.claim("payment", worker="two")
    adapter = KeepingBooks("payment")
    for claim in (first, second):
        desk.settle(desk.result(claim, sending.call(adapter=adapter, claim=claim)))
    run.finish()
    found = run.broken()
    assert {"one-effect-per-key", "audit-gap"} <= found


def test_a_transition_without_its_audit_row(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record = unit.Unit.record

    def forgetful(self: unit.Unit, **row: Any) -> None:
        if row["name"] != "dispatch":
            record(self, **row)

    monkeypatch.setattr(unit.Unit, "record", forgetful)
    run.order()
    run.finish()
    found = run.broken(at_the_end=False)
    assert {"audit-gap", "dispatched-twice"} <= found


def test_a_last_transition_without_its_audit_row(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    record = unit.Unit.record

    def forgetful(self: unit.Unit, **row: Any) -> None:
        if row["name"] != "succeed":
            record(self, **row)

    monkeypatch.setattr(unit.Unit, "record", forgetful)
    run.order()
    run.finish()
    assert {"audit-missing", "dependency-unmet"} <= run.broken()


def test_history_rewritten_by_hand(run: Run) -> None:
    run.order()
    run.finish()
    run.as_owner("UPDATE fulfillment_transition SET actor = 'nobody' WHERE sequence = 4")
    assert run.broken() == {"chain-broken"}


def test_the_end_of_history_cut_off(run: Run) -> None:
    order = run.order()
    run.finish()
    last = "(SELECT max(sequence) FROM fulfillment_transition)"
    run.as_owner(f"DELETE FROM fulfillment_transition WHERE sequence = {last}")
    assert {"chain-broken", "audit-missing"} <= run.broken()
    assert order.reference in "\n".join(map(str, run.violations()))


def test_a_lost_order(run: Run) -> None:
    order = run.order()
    run.finish()
    run.as_owner(
        f"DELETE FROM oms_milestone WHERE order_id = {order.pk}",
        f"DELETE FROM oms_notification WHERE order_id = {order.pk}",
        f"DELETE FROM oms_pendingasset WHERE order_id = {order.pk}",
        f"DELETE FROM oms_asset WHERE order_id = {order.pk}",
        f"DELETE FROM oms_orderitem WHERE order_id = {order.pk}",
        f"DELETE FROM oms_order WHERE id = {order.pk}",
    )
    found = run.violations()
    assert "lost" in {violation.rule for violation in found}
    assert checker.counted(found)["lost"] == 1


def test_a_success_without_an_effect(run: Run) -> None:
    run.order()
    run.finish()
    books[-1].execute("DELETE FROM executions WHERE target = 'payment'")
    assert run.broken() == {"success-on-evidence"}


def test_an_effect_without_a_success(run: Run) -> None:
    run.order()
    desk.drain(["crm"])
    (claim,) = desk.claim("payment")
    sending.call(adapter=KeepingBooks("payment"), claim=claim)
    desk.settle(desk.result(claim, desk.rejected()))
    run.finish()
    assert "effect-without-success" in run.broken()


def test_a_dispatch_under_a_hold(run: Run) -> None:
    order = run.order()
    run.finish()
    for scope, subject in (
        ("ORDER", f"order:{order.reference}"),
        ("TASK", f"task:{Task.objects.get(key='two@1').pk}"),
        ("ITEM", f"item:{order.reference}/1"),
        ("TARGET", "target:payment"),
        ("ACTION", "action:payment/two"),
        ("CUSTOMER", f"customer:{order.fulfillment.customer}"),
    ):
        run.as_owner("DELETE FROM fulfillment_hold", _hold(scope, subject))
        assert run.broken(at_the_end=False) == {"sent-under-hold"}, subject
    for other in ("order:O-other", f"item:{order.reference}/2", "action:payment/one"):
        scope = other.partition(":")[0].upper()
        run.as_owner("DELETE FROM fulfillment_hold", _hold(scope, other))
        assert run.broken(at_the_end=False) == set(), other
    released = _hold("TARGET", "target:payment", until="fulfillment_now() - interval '50 s'")
    run.as_owner("DELETE FROM fulfillment_hold", released)
    assert run.broken(at_the_end=False) == set()


def _hold(scope: str, subject: str, *, until: str = "NULL") -> str:
    return (
        "INSERT INTO fulfillment_hold (scope, subject, reason, clock_policy, until, placed_by, "
        "placed_at, released_by, release_reason) VALUES "
        f"('{scope}', '{subject}', 'a test', 'RUN', {until}, 'a test', "
        "fulfillment_now() - interval '60 s', '', '')"
    )


def test_a_call_to_a_paused_target(run: Run) -> None:
    run.as_owner(
        "INSERT INTO fulfillment_operation (kind, subject, actor, reason, before, after, "
        "happened_at) VALUES ('pause_target', 'target:payment', 'a test', 'a test', '{}', '{}', "
        "fulfillment_now() - interval '60 s')"
    )
    run.order()
    run.finish()
    assert run.broken() == {"called-while-paused"}


def test_a_limit_overrun(run: Run) -> None:
    for _ in range(3):
        run.order()
    desk.claim("crm", limit=3)
    run.as_owner("UPDATE fulfillment_targetsystem SET concurrency_limit = 3 WHERE name = 'crm'")
    assert run.broken(at_the_end=False) == set()
    run.as_owner("UPDATE fulfillment_targetsystem SET concurrency_limit = 2 WHERE name = 'crm'")
    assert run.broken(at_the_end=False) == {"concurrency-limit"}


def test_calls_of_one_slot_follow_one_another(run: Run) -> None:
    for _ in range(2):
        run.order()
    run.finish()
    run.as_owner("UPDATE fulfillment_targetsystem SET concurrency_limit = 1 WHERE name = 'crm'")
    first = "SELECT min(started_at) FROM fulfillment_attempt WHERE target_id = 'crm'"
    run.as_owner(f"UPDATE fulfillment_attempt SET started_at = ({first}) WHERE target_id = 'crm'")
    assert run.broken() == {"concurrency-limit"}
    run.as_owner("UPDATE fulfillment_attempt SET slot = 0, worker = 'w' WHERE target_id = 'crm'")
    assert run.broken() == set()


def test_a_row_that_belongs_to_nothing(run: Run) -> None:
    run.order()
    run.finish()
    run.as_owner("UPDATE fulfillment_attempt SET command_id = -1 WHERE target_id = 'crm'")
    assert "orphan" in run.broken()


def test_a_rate_overrun(run: Run) -> None:
    for _ in range(3):
        run.order()
    run.finish()
    limit = "UPDATE fulfillment_targetsystem SET rate_per_second = {}, rate_burst = {}"
    run.as_owner(limit.format(0.001, 3))
    assert run.broken() == set()
    run.as_owner(limit.format(0.001, 2))
    assert run.broken() == {"rate-limit"}


def test_an_order_stuck_without_a_case(run: Run, systems: Any) -> None:
    systems.sends["two"] = [desk.rejected("not_done")]
    order = run.order()
    run.finish()
    run.as_owner("DELETE FROM fulfillment_casetask", "DELETE FROM fulfillment_falloutcase")
    assert {"stuck", "no-case"} <= run.broken()
    task = Task.objects.get(key="two@1")
    run.as_owner(
        "INSERT INTO fulfillment_falloutcase (fulfillment_id, plan_id, task_id, subject, state, "
        "category, severity, reason_code, title, explanation, facts, repair_options, owner_queue, "
        "sla_due_at, customer_impact, revenue_impact, opened_by, opened_at, resolved_by, "
        f"resolution) VALUES ({order.fulfillment_id}, {task.plan_id}, {task.pk}, 'task', 'OPEN', "
        "'REFUSED', 'LOW', 'refused', 'It was refused', 'Look.', '{}', '[]', 'operations', "
        "fulfillment_now(), '', '', 'a test', fulfillment_now(), '', '')"
    )
    assert {"stuck", "no-case"} & run.broken() == set()


def test_an_outbox_row_that_was_never_sent(run: Run) -> None:
    run.order()
    desk.drain()
    assert run.broken() == {"outbox-unsent"}


def test_a_plan_that_was_superseded_before_its_task_was_sent(run: Run) -> None:
    order = run.order()
    run.finish()
    run.as_owner(
        "UPDATE fulfillment_transition SET to_state = 'SUPERSEDED', "
        "occurred_at = occurred_at - interval '60 s' WHERE entity = 'plan' AND name = 'complete'"
    )
    assert "superseded-silent" in run.broken(), order


def _report(event_id: str, *, copies_left: int) -> None:
    books[-1].execute(
        "INSERT INTO callbacks (target, idempotency_key, url, body, due_at, copies_left) "
        "VALUES ('crm', 'a-key', '', ?, 0, ?)",
        (json.dumps({"event_id": event_id}), copies_left),
    )


@pytest.mark.parametrize(
    ("copies_left", "rules"), [(1, set()), (0, {"report-lost"}), (-1, {"report-refused"})]
)
def test_a_report_that_was_taken_and_is_gone(run: Run, copies_left: int, rules: set[str]) -> None:
    _report("e-1", copies_left=copies_left)
    assert run.broken() == rules


def test_a_report_that_is_said_to_be_applied_and_is_not(run: Run, systems: Any) -> None:
    run.order()
    run.finish()
    task = Task.objects.get(key="one@1")
    event = (
        "INSERT INTO fulfillment_inboundevent (source, event_id, idempotency_key, body, "
        "disposition, task_id, suggestions, received_at) VALUES "
        f"('crm', 'e-1', 'a-key', '{{}}', 'APPLIED', {task.pk}, '[]', fulfillment_now())"
    )
    run.as_owner(event)
    assert run.broken() == {"report-not-applied"}


def test_a_report_that_is_parked_although_its_command_is_known(run: Run) -> None:
    run.order()
    run.finish()
    run.as_owner(
        "INSERT INTO fulfillment_inboundevent (source, event_id, idempotency_key, body, "
        "disposition, suggestions, received_at) SELECT 'crm', 'e-1', idempotency_key, '{}', "
        "'UNMATCHED', '[]', fulfillment_now() FROM fulfillment_command WHERE target_id = 'crm'"
    )
    assert run.broken() == {"report-unmatched"}


def test_an_order_that_came_to_be_twice(run: Run) -> None:
    order = run.order()
    other = desk.submit_all(desk.request(external_id="another"))[0]
    run.finish()
    desk.client("another")
    run.as_owner(
        f"UPDATE oms_order SET external_id = '{order.external_id}', client_id = "
        f"(SELECT id FROM oms_apiclient WHERE name = 'another') "
        f"WHERE reference = '{other.reference}'"
    )
    assert run.broken() == {"order-twice"}


def test_a_completed_order_with_work_left(run: Run, systems: Any) -> None:
    systems.sends["three"] = [desk.accepted()]
    run.order()
    run.finish()
    run.as_owner("UPDATE oms_order SET state = 'COMPLETED'")
    assert "order-completes-on-evidence" in run.broken()


def test_a_task_sent_before_what_it_needs(run: Run) -> None:
    run.order()
    run.as_owner("UPDATE fulfillment_task SET state = 'READY' WHERE key = 'one@1'")
    run.finish()
    run.as_owner(
        "UPDATE fulfillment_transition SET sequence = sequence + 1000 WHERE to_state = 'SUCCEEDED'"
    )
    assert "dependency-unmet" in run.broken()


def test_an_illegal_transition(run: Run) -> None:
    run.order()
    run.finish()
    run.as_owner(
        "UPDATE fulfillment_transition SET from_state = 'SUCCEEDED' WHERE to_state = 'DISPATCHED'"
    )
    assert "illegal-transition" in run.broken()


def test_an_attempt_that_nobody_ends(run: Run) -> None:
    run.order()
    desk.claim("crm")
    assert {"attempt-open", "stuck"} <= run.broken()


def test_the_program_says_what_it_found(run: Run, tmp_path: Path) -> None:
    run.order()
    run.finish()
    command = [
        *(sys.executable, "-m", "tests.chaos.checker", "--database", run.url),
        *("--ledger", str(run.ledger), "--log", str(run.log)),
    ]
    clean = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "lost=0 duplicates=0 stuck=0 others=0" in clean.stdout
    books[-1].execute("DELETE FROM executions WHERE target = 'payment'")
    dirty = subprocess.run(command, capture_output=True, text=True, check=False)
    assert dirty.returncode == 1
    assert "success-on-evidence" in dirty.stdout
