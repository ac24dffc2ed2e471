"""`manage.py workflows`, `targets`, `holds`, `cases` and `api_key`, as an operator types them."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from adapters.registry import AdapterMisconfigured
from fulfillment import operations
from fulfillment.engine.store import targets
from fulfillment.errors import TargetNameReserved, TargetNamesTooAlike, UnknownQueue
from fulfillment.models import (
    FalloutCase,
    Hold,
    Operation,
    TargetSystem,
    WorkflowVersion,
)
from oms.environment import CHECKOUT
from oms.keys import find_key
from oms.models import ApiKey
from tests import desk
from tests.desk import ScriptedSystems, by

pytestmark = pytest.mark.django_db
_CALENDARS = "templates/calendars.yaml"
_TARGETS = str(CHECKOUT / "examples" / "targets" / "sandbox.yaml")
_SHIPPED = list((CHECKOUT / "templates" / "workflows").glob("*/v*.yaml"))
_SHOP = CHECKOUT / "templates" / "workflows" / "ecommerce-order" / "v1.yaml"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_the_shipped_workflows_have_no_faults() -> None:
    assert run("workflows", "check").count("has no faults") == len(_SHIPPED)


def test_publishing_twice_changes_nothing() -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    assert run("workflows", "publish").count("published\n") == len(_SHIPPED)
    before = list(WorkflowVersion.objects.values())
    assert run("workflows", "publish").count("unchanged") == len(_SHIPPED)
    assert list(WorkflowVersion.objects.values()) == before


def test_the_same_version_with_other_content_is_refused(tmp_path: Path) -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    run("workflows", "publish")
    changed = tmp_path / "v1.yaml"
    changed.write_text(_SHOP.read_text().replace("title: Ship the goods", "title: Send the goods"))
    with pytest.raises(CommandError, match=r"ecommerce-order v1 is published with other content"):
        run("workflows", "publish", str(changed))
    changed.write_text(changed.read_text().replace("version: 1\n", "version: 99\n"))
    assert run("workflows", "publish", str(changed)) == "ecommerce-order v99 published\n"


def test_comments_and_formatting_are_not_content(tmp_path: Path) -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    run("workflows", "publish")
    same = tmp_path / "v1.yaml"
    same.write_text(_SHOP.read_text() + "\n# A remark.\n")
    assert "unchanged" in run("workflows", "publish", str(same))


def test_a_fault_names_file_line_and_path_and_nothing_is_published(tmp_path: Path) -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        _SHOP.read_text().replace("success: validate_order", "success: validate_odre")
    )
    lines = _SHOP.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "success: validate_order" in line)
    with pytest.raises(CommandError) as refused:
        run("workflows", "publish", str(_SHOP), str(broken))
    assert f"{broken}:{number} tasks.check_inventory.depends_on[0]" in str(refused.value)
    assert not WorkflowVersion.objects.exists()


def test_a_workflow_for_a_target_that_no_row_describes_is_refused() -> None:
    with pytest.raises(CommandError, match=r"(?s)crm.*payment"):
        run("workflows", "publish", str(_SHOP))


def test_published_versions_are_listed_shown_and_drawn() -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    run("workflows", "publish")
    assert "ecommerce-order v1" in run("workflows", "list")
    document = json.loads(run("workflows", "show", "ecommerce-order@1"))
    assert document["workflow"] == "ecommerce-order"
    drawn = run("workflows", "graph", "ecommerce-order")
    assert drawn.startswith("flowchart TD")
    assert drawn == run("workflows", "graph", str(_SHOP.with_name("v3.yaml")))
    with pytest.raises(CommandError, match="No published workflow is called nothing"):
        run("workflows", "show", "nothing")


def test_the_schema_for_editors_is_the_one_that_is_shipped() -> None:
    shipped = CHECKOUT / "templates" / "workflows" / "workflow.schema.json"
    assert json.loads(run("workflows", "schema")) == json.loads(shipped.read_text())


# --- targets --------------------------------------------------------------------------------------


def test_loading_targets_keeps_what_an_operator_has_edited() -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    TargetSystem.objects.filter(pk="crm").update(sender_slots=3)
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    assert TargetSystem.objects.get(pk="crm").sender_slots == 3
    assert "crm updated" in run("targets", "load", _TARGETS, "--overwrite")
    assert TargetSystem.objects.get(pk="crm").sender_slots == 16
    assert "blackbox" in run("targets", "list")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("queue: crm", "queue: nowhere"), "which no worker consumes"),
        (("adapter: http", "adapter: pigeon"), "Choose one of: http"),
        (("{base_url:", "{base_uri:"), "base_uri"),
        (("idempotent: true", "idempotent: maybe"), r"rows.yaml:\d+ targets.inventory.idempotent"),
        (("  inventory:", "  Inventory!:"), "targets"),
    ],
)
def test_a_row_that_could_not_work_is_refused_and_none_is_written(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file = tmp_path / "rows.yaml"
    file.write_text(Path(_TARGETS).read_text().replace(*change))
    with pytest.raises(CommandError, match=message):
        run("targets", "load", str(file))
    assert not TargetSystem.objects.exists()


def test_a_target_on_an_undeclared_queue_fails_loudly() -> None:
    desk.target("lost", queue="nowhere")
    with pytest.raises(UnknownQueue, match="OMS_TARGET_QUEUES"):
        targets.get("lost")


def test_where_the_sandbox_listens_is_not_written_into_the_row(settings: Any) -> None:
    run("targets", "load", _TARGETS)
    run("calendars", "load", _CALENDARS)
    row = TargetSystem.objects.get(pk="crm")
    assert row.settings == {"base_url": "${sandbox_url}"}
    targets.check(row)
    settings.OMS_SANDBOX_URL = "nowhere"
    with pytest.raises(AdapterMisconfigured, match="nowhere"):
        targets.check(row)


@pytest.mark.parametrize("name", ["stock_room", "Stock-Room", "STOCK_ROOM"])
def test_a_name_that_would_share_another_ones_callback_secret_is_refused(name: str) -> None:
    there = desk.target("stock-room")
    row = TargetSystem(name=name, queue=there.queue, adapter=there.adapter)
    with pytest.raises(TargetNamesTooAlike, match="OMS_CALLBACK_SECRET_STOCK_ROOM") as refused:
        targets.check(row)
    assert "'stock-room'" in str(refused.value)
    assert refused.value.code == "fulfillment.target_names_too_alike"


def test_a_file_with_two_names_that_would_share_a_secret_is_refused_as_a_whole(
    tmp_path: Path,
) -> None:
    row = "{title: T, queue: crm, adapter: http, settings: {base_url: 'http://127.0.0.1:1'}, "
    row += "idempotent: true, status_query: true}"
    file = tmp_path / "rows.yaml"
    file.write_text(f"targets:\n  stock-room: {row}\n  stock_room: {row}\n")
    with pytest.raises(CommandError, match="each could report in the name of the other"):
        run("targets", "load", str(file))
    assert not TargetSystem.objects.exists()


@pytest.mark.parametrize("name", ["stock-file", "stock_file", "Stock-FILE", "file"])
def test_a_name_whose_secret_would_be_another_ones_file_is_refused(name: str) -> None:
    row = TargetSystem(name=name, queue="crm", adapter="http")
    with pytest.raises(TargetNameReserved, match="names the file that OMS_CALLBACK") as refused:
        targets.check(row)
    assert refused.value.code == "fulfillment.target_name_reserved"
    with pytest.raises(TargetNameReserved):
        operations.edit_target(row=row, actor=by("ann"))


def test_a_name_that_only_contains_file_is_none_of_it() -> None:
    targets.check_name(TargetSystem(name="profile"))
    targets.check_name(TargetSystem(name="file-server"))


def test_rows_that_have_been_alike_for_long_can_be_edited() -> None:
    desk.target("stock-room")
    targets.check(desk.target("stock_room"))


def test_loading_targets_is_logged_with_what_has_changed() -> None:
    run("targets", "load", _TARGETS)
    assert set(Operation.objects.values_list("kind", flat=True)) == {"add_target"}
    TargetSystem.objects.filter(pk="crm").update(sender_slots=3)
    run("targets", "load", _TARGETS, "--overwrite")
    entry = Operation.objects.get(kind="edit_target")
    assert (entry.subject, entry.before, entry.after) == (
        "target:crm",
        {"sender_slots": 3},
        {"sender_slots": 16},
    )


def test_a_target_is_paused_looked_at_and_resumed(systems: ScriptedSystems) -> None:
    desk.target("alpha", concurrency_limit=7)
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha")})
    desk.order()
    paused = run("targets", "pause", "alpha", "--reason", "They move house.")
    assert paused == "alpha is paused; 0 calls on the wire.\n"
    alpha, why, beta = run("targets", "status").splitlines()
    assert alpha.split() == [
        *("alpha", "paused", "under", "way", "0", "of", "7;", "waiting", "1;"),
        *("in", "doubt", "0;", "accepted", "0;", "held", "0"),
    ]
    assert "(manage.py) since" in why
    assert "“They move house.”" in why
    assert beta.split()[:2] == ["beta", "well"]
    assert run("targets", "resume", "alpha", "--reason", "x") == "alpha goes on.\n"
    assert run("targets", "resume", "alpha", "--reason", "x") == "alpha was not paused.\n"
    with pytest.raises(CommandError, match="There is no target system 'gamma'"):
        run("targets", "pause", "gamma", "--reason", "x")
    with pytest.raises(CommandError, match="Say why"):
        run("targets", "pause", "alpha", "--reason", " ")
    with pytest.raises(CommandError, match="--reason"):
        run("targets", "pause", "alpha")


# --- holds and cases ------------------------------------------------------------------------------


def test_holds_are_placed_listed_and_released(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    order = desk.order()
    placed = run(
        *("holds", "place", "order", order.reference),
        *("--reason", "It may be fraud.", "--until", "2199-01-01T10:00"),
    )
    hold = Hold.objects.get()
    assert placed == f"Hold {hold.pk} is in force; 0 calls on the wire.\n"
    assert f"{hold.until:%Y-%m-%d %H:%M %Z}" == "2199-01-01 10:00 UTC"
    assert hold.placed_by.endswith("(manage.py)")
    listed = run("holds", "list")
    assert listed.split()[:2] == [str(hold.pk), f"order:{order.reference}"]
    assert "until 2199-01-01 10:00" in listed
    assert "It may be fraud." in listed
    desk.drain()
    assert systems.actions() == []
    assert "is released" in run("holds", "release", str(hold.pk), "--reason", "It is none.")
    assert "was released before" in run("holds", "release", str(hold.pk), "--reason", "x")
    assert run("holds", "list") == ""
    desk.drain()
    assert systems.actions() == ["one"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("place", "order", "O-0", "--reason", "x"), "There is no order 'O-0'"),
        (("place", "target", "alpha", "--reason", ""), "Say why"),
        (("place", "target", "alpha", "--reason", "x", "--until", "2020-01-01"), "has passed"),
        (("place", "target", "alpha", "--reason", "x", "--until", "soon"), "'soon' is no time"),
        (("place", "world", "alpha", "--reason", "x"), "invalid choice"),
        (("place", "target", "alpha"), "--reason"),
        (("release", "999999", "--reason", "x"), "There is no hold 999999"),
    ],
)
def test_a_hold_that_makes_no_sense_is_refused(arguments: tuple[str, ...], message: str) -> None:
    desk.target("alpha")
    with pytest.raises(CommandError, match=message):
        run("holds", *arguments)
    assert not Hold.objects.exists()


def test_open_cases_are_listed_and_closed_ones_on_request(systems: ScriptedSystems) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected()]
    desk.order()
    desk.drain()
    case = FalloutCase.objects.get()
    listed = run("cases", "list")
    assert f"{case.pk} " in listed
    assert "due" in listed
    assert case.title in listed
    FalloutCase.objects.update(sla_due_at=case.opened_at - timedelta(hours=1))
    assert "OVERDUE" in run("cases", "list")
    operations.close_case(case_id=case.pk, resolution="x", actor=by("anna"))
    assert run("cases", "list") == ""
    assert "closed" in run("cases", "list", "--all")


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_works_until_it_is_revoked() -> None:
    key = run("api_key", "create", "--client", "me", "--quiet").strip()
    found = find_key(key)
    assert found is not None
    assert found.client.name == "me"
    assert sorted(found.scopes) == ["orders:read", "orders:write"]
    listed = run("api_key", "list")
    assert found.prefix in listed
    assert key.split("_", 2)[2] not in listed
    run("api_key", "revoke", key)
    assert ApiKey.objects.get().revoked_at is not None
    with pytest.raises(CommandError, match="No working key"):
        run("api_key", "revoke", found.prefix)


def test_a_key_may_be_narrow_and_short_lived() -> None:
    run("api_key", "create", "--client", "me", "--scope", "orders:read", "--days", "7")
    key = ApiKey.objects.get()
    assert key.scopes == ["orders:read"]
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (6, 7)


@pytest.mark.parametrize("name", ["", "two words", "x" * 61, "naïve/slash"])
def test_a_client_needs_a_plain_name(name: str) -> None:
    with pytest.raises(CommandError, match=r"[Cc]lient"):
        run("api_key", "create", "--client", name)
