"""Registration of a user across services, with the undo of each declared beside it."""

from __future__ import annotations

import pytest

from fulfillment.engine.store import graphs
from fulfillment.models import FalloutCase
from oms.models import Asset
from tests import desk, shipped
from tests.desk import ScriptedSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _shop(systems: ScriptedSystems) -> None:
    shipped.open_shop("user-registration")


def test_a_user_is_registered_with_every_service() -> None:
    order = shipped.order("user-registration/web")
    assert shipped.completed(order)
    assert shipped.actions()[:2] == ["create_account", "create_profile"]
    # Both need the profile alone, so neither waits for the other.
    assert set(shipped.actions()[2:4]) == {"set_preferences", "track_signup"}
    assert shipped.actions()[4:] == ["send_message"]
    assert shipped.sent("create_profile")[0]["account_id"].startswith("account-")
    assert shipped.sent("set_preferences")[0]["newsletter"] is True
    assert shipped.sent("set_preferences")[0]["push"] is False
    assert Asset.objects.get().offering == "user-account"


def test_counting_may_fail_without_keeping_the_user_waiting(systems: ScriptedSystems) -> None:
    systems.sends["track_signup"] = [desk.rejected("quota_used_up")]
    order = shipped.order("user-registration/web")
    assert shipped.completed(order)
    assert desk.states_of(order)["track_signup@1"] == "FAILED_FINAL"
    assert not FalloutCase.objects.exists()


def test_an_address_that_is_taken_stops_it_with_nothing_behind_it_done(
    systems: ScriptedSystems,
) -> None:
    systems.sends["create_profile"] = [desk.rejected("duplicate_email")]
    order = shipped.order("user-registration/web")
    assert desk.states_of(order)["create_profile@1"] == "FAILED_FINAL"
    assert FalloutCase.objects.get().reason_code == "duplicate_email"
    assert shipped.actions() == ["create_account", "create_profile"]
    assert not Asset.objects.exists()


def test_a_service_that_is_down_for_a_while_is_tried_again(systems: ScriptedSystems) -> None:
    systems.sends["create_account"] = [desk.failed("unavailable")] * 3
    order = shipped.order("user-registration/web")
    for _ in range(3):
        shipped.later(60)
    assert shipped.completed(order)


def test_undo_runs_against_the_direction_of_the_work() -> None:
    order = shipped.order("user-registration/web")
    graph = graphs.by_id(desk.plan_of(order).graph_id)
    undo = {
        node.task: (node.compensation.target, node.compensation.action)
        for node in graph.nodes
        if node.compensation is not None
    }
    assert undo == {
        "create_account": ("identity", "delete_account"),
        "create_profile": ("profiles", "deactivate_profile"),
        "set_preferences": ("notification", "remove_preferences"),
        "track_signup": ("analytics", "forget_signup"),
    }
    names = {node.index: node.task for node in graph.nodes}
    edges = {(names[edge.source], names[edge.target]) for edge in graph.undo_edges}
    assert {
        ("create_profile", "create_account"),
        ("set_preferences", "create_profile"),
        ("track_signup", "create_profile"),
    } <= edges
