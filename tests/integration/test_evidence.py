"""Everything about one order in one file, which can be checked without the database."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.errors import Denied, ReasonMissing, SubjectUnknown
from fulfillment.models import AuthorityDecision, HoldScope, Operation, Transition
from oms.evidence.checking import Checked, check
from oms.evidence.members import columns, paths
from oms.evidence.packing import taken
from oms.keys import create_key
from oms.models import Order, Scope
from tests import people
from tests.desk import by

pytestmark = pytest.mark.django_db


def pack_of(order: Order, actor: Actor | None = None) -> bytes:
    actor = actor or people.auditor()
    with taken(reference=order.reference, actor=actor, reason="A court asks.") as file:
        return file.read()


def checked(data: bytes, *, keys: Any = None) -> Checked:
    return check(file=io.BytesIO(data), audit_keys=keys or settings.OMS_AUDIT_KEYS)


def changed(data: bytes, name: str, old: str, new: str) -> bytes:
    """The same file with one member in other words."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(result, "w") as after:
        for member in before.namelist():
            text = before.read(member).decode()
            if member == name:
                assert old in text
                text = text.replace(old, new, 1)
            after.writestr(member, text)
    return result.getvalue()


def rows(data: bytes, table: str) -> list[dict[str, Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        found: list[dict[str, Any]] = json.loads(pack.read(f"tables/{table}.json"))
    return found


def test_it_holds_everything_about_the_order(halfway: Order) -> None:
    operations.place_hold(
        scope=HoldScope.ORDER, name=halfway.reference, reason="Look at it.", actor=by("anna")
    )
    data = pack_of(halfway)
    found = checked(data)
    assert found.faults == []
    assert (found.order, found.taken_by) == (halfway.reference, "adam")
    assert found.rows == Transition.objects.filter(fulfillment=halfway.fulfillment_id).count()
    assert found.seals == 1
    for table in (
        *("oms_order", "oms_orderitem", "oms_milestone", "oms_cancellationrequest"),
        *("oms_amendmentrequest", "oms_pendingasset", "fulfillment_plan", "fulfillment_plangraph"),
        *("fulfillment_task", "fulfillment_command", "fulfillment_attempt", "fulfillment_hold"),
        *("fulfillment_inboundevent", "fulfillment_outboxevent", "fulfillment_delivery"),
        *("fulfillment_transition", "fulfillment_falloutcase", "fulfillment_manualtask"),
        *("fulfillment_operation", "fulfillment_authoritydecision", "fulfillment_auditseal"),
    ):
        assert rows(data, table), table
    (order,) = rows(data, "oms_order")
    assert order["external_id"] == halfway.external_id
    *_, taking = rows(data, "fulfillment_operation")
    assert (taking["kind"], taking["reason"]) == ("take_evidence", "A court asks.")


def test_what_happened_can_be_read(halfway: Order) -> None:
    with zipfile.ZipFile(io.BytesIO(pack_of(halfway))) as pack:
        told = pack.read("timeline.txt").decode()
        readme = pack.read("README.txt").decode()
    assert f"[1] order {halfway.reference} begins as SUBMITTED; by " in told
    assert "task one@1 was DISPATCHED, is SUCCEEDED; by worker" in told
    assert "BY HAND: take_evidence" in told
    assert halfway.reference in readme
    assert "manage.py evidence verify FILE" in readme


def test_no_secret_leaves_the_database(halfway: Order) -> None:
    data = pack_of(halfway)
    with zipfile.ZipFile(io.BytesIO(data)) as pack:
        for name in pack.namelist():
            assert b"whsec_" not in pack.read(name)
    names = {model._meta.db_table for model in paths()}
    assert names.isdisjoint({"oms_apikey", "oms_apiclient", "auth_user"})
    assert not [one for model in paths() for one in columns(model) if "secret" in one]


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("timeline.txt", "SUBMITTED", "REJECTED", "timeline.txt is not as it was written."),
        ("tables/oms_order.json", "SHOP-7", "SHOP-8", "tables/oms_order.json is not as it was"),
        ("tables/fulfillment_transition.json", "SUCCEEDED", "FAILED", "of the audit trail is not"),
        ("manifest.json", "A court asks.", "Nobody asks.", "manifest.json is not as it was"),
        ("seals/1.txt", "chain", "chaim", "is not what seal 1 was made over"),
        ("tables/fulfillment_auditseal.json", '"rows": ', '"rows": 1', "Seal 1 is not as it was"),
    ],
)
def test_a_file_that_was_changed_is_found(
    halfway: Order, name: str, old: str, new: str, fault: str
) -> None:
    faults = checked(changed(pack_of(halfway), name, old, new)).faults
    assert any(fault in one for one in faults), faults


def test_a_trail_that_does_not_fit_its_seals_is_found(halfway: Order) -> None:
    """Whoever has the file alone can make the hashes fit, and not the seals."""
    trail = rows(pack_of(halfway), "fulfillment_transition")
    last = trail[-1]
    data = changed(pack_of(halfway), "tables/fulfillment_transition.json", last["hash"], "0" * 64)
    faults = checked(data).faults
    assert any("has seen another row" in one for one in faults), faults


def test_another_key_does_not_vouch_for_it(halfway: Order) -> None:
    faults = checked(pack_of(halfway), keys=("another-key-of-another-installation",)).faults
    assert "which OMS_AUDIT_KEY does not hold" in faults[0]


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04"])
def test_what_is_no_evidence_is_said_to_be_none(data: bytes) -> None:
    (fault,) = checked(data).faults
    assert "It is no evidence" in fault


def test_whoever_may_not_gets_nothing_and_that_is_on_record(halfway: Order) -> None:
    with pytest.raises(Denied):
        pack_of(halfway, people.anybody("eve"))
    assert not Operation.objects.filter(kind="take_evidence").exists()
    decision = AuthorityDecision.objects.latest("id")
    assert (decision.actor, decision.is_allowed) == ("eve", False)


def test_only_where_a_grant_says(halfway: Order) -> None:
    bert = people.actor(people.operator("bert", Action.ORDER_EVIDENCE, regions=["ID"]))
    with pytest.raises(Denied, match="region"):
        pack_of(halfway, bert)


def test_it_needs_an_order_and_a_reason(halfway: Order) -> None:
    with pytest.raises(SubjectUnknown):
        taken(reference="O-none", actor=people.auditor(), reason="A court asks.")
    with pytest.raises(ReasonMissing):
        taken(reference=halfway.reference, actor=people.auditor(), reason=" ")


def test_the_command_takes_and_verifies(halfway: Order, tmp_path: Path) -> None:
    people.auditor()
    path = tmp_path / "file.zip"
    told = io.StringIO()
    call_command(
        *("evidence", halfway.reference, "--to", str(path), "--reason", "A court asks."),
        *("--as", "adam"),
        stdout=told,
    )
    assert path.stat().st_mode & 0o077 == 0
    call_command("evidence", "verify", str(path), stdout=told)
    assert "is as adam" in told.getvalue()
    path.write_bytes(changed(path.read_bytes(), "timeline.txt", "SUBMITTED", "REJECTED"))
    with pytest.raises(CommandError, match="is not as it was written"):
        call_command("evidence", "verify", str(path), stderr=io.StringIO())
    with pytest.raises(CommandError, match="There is no order"):
        call_command("evidence", "O-none", "--to", str(tmp_path / "x"), "--reason", "x")
    assert list(tmp_path.iterdir()) == [path]


def test_people_take_it_over_the_api(halfway: Order, client: Client) -> None:
    adam = people.operator("adam", Action.ORDER_EVIDENCE)
    for user, status in ((adam, 200), (people.operator("eve"), 403)):
        text = create_key(user=user, scopes=[Scope.ORDERS_READ])
        address = f"/api/v1/orders/{halfway.reference}/evidence"
        headers = {"Authorization": f"Bearer {text}"}
        answer = client.get(f"{address}?reason=A+court+asks.", headers=headers)
        assert answer.status_code == status
        if status == 200:
            assert answer["Content-Type"] == "application/zip"
            assert checked(b"".join(answer.streaming_content)).faults == []  # type: ignore[attr-defined]
        assert client.get(address, headers=headers).status_code == 400


def test_it_is_a_click_away_in_the_admin(halfway: Order, boss: Client) -> None:
    page = boss.get(f"/admin/oms/order/{halfway.pk}/change/").content.decode()
    address = f"/admin/oms/order/{halfway.pk}/evidence/"
    assert address in page
    assert "Take the evidence" in boss.get(address).content.decode()
    answer = boss.post(address, {"reason": "A court asks."})
    assert checked(b"".join(answer.streaming_content)).faults == []  # type: ignore[attr-defined]
    assert Operation.objects.get(kind="take_evidence").actor == "boss"
