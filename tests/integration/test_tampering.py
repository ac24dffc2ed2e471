"""Tampering with history, by the application's role and by the database's owner (docs/audit.md).

Each is refused, or found and named by `manage.py verify_audit`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.audit import keys
from fulfillment.audit.sealing import document, seal_new
from fulfillment.audit.verifying import verify
from fulfillment.authority.authorizing import authorize
from fulfillment.authority.context import Context
from fulfillment.engine.work import chain
from fulfillment.models import (
    Approval,
    AuditSeal,
    AuthorityDecision,
    Command,
    Fulfillment,
    HoldScope,
    Operation,
    SealedRow,
    Task,
    Transition,
)
from oms.models import Order
from tests import desk
from tests.by_force import as_owner
from tests.desk import ScriptedSystems, by


@pytest.fixture
def history(committed_db: str, redis_url: str, systems: ScriptedSystems) -> list[Order]:
    """Three orders that are complete, and what operators did; sealed in two steps."""
    desk.target("alpha")
    desk.workflow({"one": desk.task(), "two": desk.task(after=["one"])})
    orders = [desk.order() for _ in range(3)]
    seal_new()
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-9", reason="Unpaid.", actor=by("anna"))
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-8", reason="Unpaid.", actor=by("bert"))
    authorize(actor=by("anna"), action=Action.CASE_CLOSE, context=Context(subject="case:1"))
    desk.drain()
    seal_new()
    assert AuditSeal.objects.count() == 2
    assert found() == []
    return orders


def found(**options: Any) -> list[str]:
    return [str(one) for one in verify(**options)]


def told(*arguments: str) -> str:
    """What the command says when it finds something."""
    with pytest.raises(CommandError) as error:
        call_command("verify_audit", *arguments, stderr=StringIO())
    return str(error.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fulfillment_transition SET actor = 'nobody'",
        "DELETE FROM fulfillment_transition WHERE sequence = 3",
        "TRUNCATE fulfillment_transition",
        "UPDATE fulfillment_operation SET reason = 'other'",
        "DELETE FROM fulfillment_operation",
        "UPDATE fulfillment_authoritydecision SET is_allowed = true",
        "DELETE FROM fulfillment_authoritydecision",
        "UPDATE fulfillment_command SET payload = '{}'",
        "DELETE FROM fulfillment_command",
        "UPDATE fulfillment_auditseal SET sealed_at = now()",
        "DELETE FROM fulfillment_auditseal",
        "UPDATE fulfillment_sealedrow SET sequence = 1",
        "DELETE FROM fulfillment_sealedrow",
        "DELETE FROM fulfillment_approval",
        "UPDATE fulfillment_fulfillment SET audit_sequence = 3",
        "UPDATE fulfillment_task SET state = 'CANCELLED'",
        "UPDATE oms_order SET state = 'FAILED'",
        "ALTER TABLE fulfillment_transition DISABLE TRIGGER ALL",
    ],
)
def test_the_application_is_refused(history: list[Order], statement: str) -> None:
    with pytest.raises(ProgrammingError), connection.cursor() as raw:
        raw.execute(statement)
    assert found() == []


ROW = "fulfillment_id = {order} AND sequence"
CASES = {
    "changed": (
        f"UPDATE fulfillment_transition SET actor = 'nobody' WHERE {ROW} = 5",
        ["fulfillment_transition, O-1", "Row 5 "],
    ),
    "added in the middle": (
        "INSERT INTO fulfillment_transition (fulfillment_id, sequence, entity, entity_id, name, "
        "from_state, to_state, actor, cause, details, occurred_at, hash) SELECT fulfillment_id, "
        "audit_sequence + 1, 'order', order_reference, 'fail', 'IN_PROGRESS', 'FAILED', 'x', 'x', "
        "'{{}}', now(), repeat('0', 64) FROM fulfillment_fulfillment f JOIN LATERAL "
        "(SELECT f.id AS fulfillment_id) x ON true WHERE f.id = {order}",
        ["fulfillment_transition, O-1", "was added behind the last one"],
    ),
    "cut in the middle": (
        f"DELETE FROM fulfillment_transition WHERE {ROW} = 5",
        ["fulfillment_transition, O-1", "Rows 5 to 5 are missing"],
    ),
    "tail cut": (
        f"DELETE FROM fulfillment_transition WHERE {ROW} > 9",
        ["fulfillment_transition, O-1", "Rows 10 to 15 are missing"],
    ),
    "raw state of a task": (
        "UPDATE fulfillment_task SET state = 'CANCELLED' WHERE id = "
        "(SELECT min(id) FROM fulfillment_task WHERE fulfillment_id = {order})",
        ["fulfillment_task, O-1", "It is CANCELLED", "says SUCCEEDED"],
    ),
    "raw state of a plan": (
        "UPDATE fulfillment_plan SET state = 'FAILED' WHERE fulfillment_id = {order}",
        ["fulfillment_plan, O-1", "It is FAILED", "says COMPLETED"],
    ),
    "raw state of an order": (
        "UPDATE oms_order SET state = 'CANCELLED' WHERE fulfillment_id = {order}",
        ["oms_order, O-1", "It is CANCELLED", "says COMPLETED"],
    ),
    "a task of another order": (
        "UPDATE fulfillment_plan SET fulfillment_id = 2, order_version = 9 "
        "WHERE fulfillment_id = {order}",
        ["fulfillment_plan, O-2", "does not know it"],
    ),
    "an operation changed": (
        "UPDATE fulfillment_operation SET reason = 'None.' "
        "WHERE id = (SELECT min(id) FROM fulfillment_operation)",
        ["fulfillment_operation, id ", "it was changed"],
    ),
    "an operation cut": (
        "DELETE FROM fulfillment_operation WHERE id = (SELECT min(id) FROM fulfillment_operation)",
        ["fulfillment_operation, id ", "It was cut: seal 2 "],
    ),
    "an operation added": (
        "INSERT INTO fulfillment_operation (id, kind, subject, actor, reason, before, after, "
        "happened_at) VALUES (-5, 'x', 'x', 'x', 'x', '{{}}', '{{}}', now()), "
        "(0, 'x', 'x', 'x', 'x', '{{}}', '{{}}', now())",
        ["fulfillment_operation, id -5", "It was added later: seal 1 of "],
    ),
    "a decision changed": (
        "UPDATE fulfillment_authoritydecision SET is_allowed = NOT is_allowed "
        "WHERE id = (SELECT max(id) FROM fulfillment_authoritydecision)",
        ["fulfillment_authoritydecision, id ", "it was changed"],
    ),
    "a decision cut": (
        "DELETE FROM fulfillment_authoritydecision "
        "WHERE id = (SELECT max(id) FROM fulfillment_authoritydecision)",
        ["fulfillment_authoritydecision, id ", "It was cut"],
    ),
    "a command changed": (
        "UPDATE fulfillment_command SET payload = '{{\"amount\": 1}}' WHERE id = "
        "(SELECT min(id) FROM fulfillment_command WHERE fulfillment_id = {order})",
        ["fulfillment_command, O-1", "or one of them is another"],
    ),
    "a command cut": (
        "DELETE FROM fulfillment_command WHERE id = "
        "(SELECT min(id) FROM fulfillment_command WHERE fulfillment_id = {order})",
        ["fulfillment_command, O-1", "has seen 1 commands", "there are 0"],
    ),
    "a seal changed": (
        "UPDATE fulfillment_auditseal SET sealed_at = sealed_at - interval '1 day' "
        "WHERE number = 1",
        ["fulfillment_auditseal, seal 1", "It is not as it was made"],
    ),
    "a seal cut": (
        "DELETE FROM fulfillment_auditseal WHERE number = 1",
        ["fulfillment_auditseal, seal 2", "The seals 1 to 1 before it are missing"],
    ),
    "a sealed row changed": (
        "UPDATE fulfillment_sealedrow SET sequence = sequence - 1 WHERE kind = 'chain'",
        ["fulfillment_auditseal, seal 1", "they are others now"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_owner_is_found(history: list[Order], case: str) -> None:
    statement, words = CASES[case]
    order = history[0]
    assert as_owner(statement.format(order=order.fulfillment_id)) > 0
    said = told()
    first = said.partition("The first: ")[2]
    for word in words:
        assert word.replace("O-1", order.reference) in first, said


def rewritten(order: Order, *, without: Callable[[Transition], bool]) -> list[str]:
    """A whole chain anew, hashes and head included, without some of its rows."""
    of = order.fulfillment_id
    statements = [
        f"DELETE FROM fulfillment_transition WHERE fulfillment_id = {order.fulfillment_id}"
    ]
    previous, sequence = "", 0
    for row in Transition.objects.filter(fulfillment_id=order.fulfillment_id):
        if without(row):
            continue
        sequence += 1
        values = {
            name: getattr(row, name)
            for name in ("entity", "entity_id", "name", "from_state", "to_state", "actor", "cause")
        }
        previous = chain.link(
            previous=previous,
            sequence=sequence,
            details=row.details,
            occurred_at=row.occurred_at,
            **values,
        )
        quoted = ", ".join(f"'{value}'" for value in values.values())
        statements.append(
            f"INSERT INTO fulfillment_transition (id, fulfillment_id, sequence, "
            f"{', '.join(values)}, details, occurred_at, hash) VALUES ({row.pk}, {of}, {sequence}, "
            f"{quoted}, '{json.dumps(row.details)}', '{row.occurred_at.isoformat()}', '{previous}')"
        )
    statements.append(
        f"UPDATE fulfillment_fulfillment SET audit_sequence = {sequence}, "
        f"audit_head = '{previous}' WHERE id = {of}"
    )
    return statements


def test_a_tail_that_is_cut_with_the_head_put_back_is_found(history: list[Order]) -> None:
    order = history[0]
    before = Transition.objects.get(fulfillment_id=order.fulfillment_id, sequence=9)
    task = Task.objects.get(fulfillment_id=order.fulfillment_id, key="two@1")
    as_owner(
        f"DELETE FROM fulfillment_transition WHERE fulfillment_id = {order.fulfillment_id} "
        "AND sequence > 9",
        f"UPDATE fulfillment_fulfillment SET audit_sequence = 9, audit_head = '{before.hash}' "
        f"WHERE id = {order.fulfillment_id}",
        f"UPDATE fulfillment_task SET state = 'PENDING' WHERE id = {task.pk}",
    )
    said = told()
    assert f"{order.reference}, row 10: Rows 10 to 15 were cut: seal 2 of " in "\n".join(found())
    assert "places are not as they were written" in said


def test_a_chain_that_is_written_anew_as_a_whole_is_found(history: list[Order]) -> None:
    order = history[0]
    # Nothing is missing to the eye: the hashes fit, the head fits, no state is another.
    as_owner(*rewritten(order, without=lambda row: row.name == "graph_validated"))
    (first, *_) = found()
    assert first.startswith(f"fulfillment_transition, {order.reference}, row ")
    assert "seal 1 of " in first


def test_the_rows_of_two_orders_that_are_swapped_are_found(history: list[Order]) -> None:
    one, two = history[0].fulfillment_id, history[1].fulfillment_id
    heads = dict(Fulfillment.objects.values_list("id", "audit_head"))
    for table in ("fulfillment_transition",):
        as_owner(
            f"UPDATE {table} SET fulfillment_id = -1 WHERE fulfillment_id = {one}",
            f"UPDATE {table} SET fulfillment_id = {one} WHERE fulfillment_id = {two}",
            f"UPDATE {table} SET fulfillment_id = {two} WHERE fulfillment_id = -1",
            f"UPDATE fulfillment_fulfillment SET audit_head = '{heads[two]}' WHERE id = {one}",
            f"UPDATE fulfillment_fulfillment SET audit_head = '{heads[one]}' WHERE id = {two}",
        )
    assert history[0].reference in told()


def test_seals_that_are_cut_off_are_found_by_one_that_was_kept(history: list[Order]) -> None:
    newest = AuditSeal.objects.get(number=2)
    as_owner(
        "DELETE FROM fulfillment_sealedrow WHERE of_id = 2",
        "DELETE FROM fulfillment_auditseal WHERE number = 2",
    )
    assert found() == []
    assert "cut off" in told("--expect", f"2:{newest.seal}")


def test_a_seal_can_not_be_made_without_the_key(history: list[Order]) -> None:
    newest = AuditSeal.objects.get(number=2)
    forged = keys.seal(key="a-key-that-somebody-has-made-up-for-it", document=document(newest))
    as_owner("UPDATE fulfillment_auditseal SET seal = %s WHERE number = 2", values=(forged,))
    assert "changed, or made without the key" in told()


def test_an_approval_that_is_changed_cut_or_added_is_found(history: list[Order]) -> None:
    as_owner(
        "INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, "
        "is_staff, is_active, date_joined) "
        "VALUES ('carl', '', false, '', '', '', false, true, now())",
        "INSERT INTO fulfillment_approval (action, subject, state, needs, payload, payload_hash, "
        "version, told, requested_by_id, requested_at, expires_at, decision_reason) "
        "SELECT 'task.waive', 'task:1', 'REFUSED', 'approve.operations', '{}', 'x', 'x', 'x', "
        "id, now(), now(), '' FROM auth_user WHERE username = 'carl'",
    )
    assert "It was added past the product" in told()
    approval = Approval.objects.get()
    Operation.objects.create(
        kind="refuse_approval",
        subject=f"approval:{approval.pk}",
        actor="a test",
        reason="No.",
        happened_at=approval.requested_at,
    )
    assert found() == []
    seal_new()
    assert found() == []
    as_owner("UPDATE fulfillment_approval SET decision_reason = 'Yes.'")
    assert "It is not as it was sealed" in told()
    as_owner("DELETE FROM fulfillment_approval")
    assert "It was cut" in told()


def test_only_the_orders_that_are_named_are_looked_at(history: list[Order]) -> None:
    one, two, _ = history
    as_owner(
        "UPDATE fulfillment_transition SET actor = 'nobody' WHERE sequence = 5 "
        f"AND fulfillment_id = {one.fulfillment_id}"
    )
    assert one.reference in told(one.reference)
    call_command("verify_audit", two.reference, stdout=StringIO())
    assert found(fulfillment_ids=[two.fulfillment_id]) == []
    with pytest.raises(CommandError, match="There is no order O-none"):
        call_command("verify_audit", "O-none")


def test_what_has_moved_since_is_looked_at_alone(history: list[Order]) -> None:
    first, second = AuditSeal.objects.order_by("number")
    as_owner("UPDATE fulfillment_transition SET actor = 'nobody' WHERE sequence = 1")
    assert len(found(since=first.sealed_at)) == 3
    later = second.sealed_at.replace(year=second.sealed_at.year + 1)
    assert found(since=later) == []


def test_what_is_not_sealed_yet_may_still_be_chained(history: list[Order]) -> None:
    fresh = desk.order()
    assert found() == []
    as_owner(
        "UPDATE fulfillment_transition SET cause = 'x' WHERE sequence = 2 "
        f"AND fulfillment_id = {fresh.fulfillment_id}"
    )
    assert f"{fresh.reference}: Row 2 " in told()


def test_every_kind_of_log_was_sealed(history: list[Order]) -> None:
    kinds = set(SealedRow.objects.values_list("kind", flat=True))
    assert kinds == {"chain", "commands", "operation", "decision"}
    assert Command.objects.count() == 6
    assert AuthorityDecision.objects.exists()
