"""Target systems and holds in the admin: seen live, stopped and let go on, with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.engine.protection import holds
from fulfillment.errors import GateBusy
from fulfillment.models import Hold, HoldScope, Operation, Plan, TargetCondition, TargetSystem, Task
from fulfillment.operations import pausing
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db
_LIST = address_of(TargetSystem, "changelist")
_PLACE = address_of(Hold, "place")


def _line(page: str, name: str) -> str:
    """The text of a target's line in the list."""
    (row,) = re.findall(rf"<tr(?:(?!</tr>).)*/targetsystem/{name}/change/.*?</tr>", page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", row).split())


def _clerk(client: Client, *permissions: str) -> Client:
    """A browser of somebody who may do no more than this."""
    clerk = User.objects.create(username="clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(clerk)
    return client


def _a_shop() -> Order:
    desk.target("alpha")
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha"), "two": desk.task("beta")})
    return desk.order()


# --- seeing how they are doing -------------------------------------------------------------------


def test_the_list_says_how_each_target_is_doing(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    desk.target("alpha", breaker_failures=1, concurrency_limit=7)
    desk.target("beta", asynchronous=True)
    desk.target("gamma")
    systems.sends["one"] = [desk.failed("http_503", retry_after=timedelta(minutes=5))]
    systems.sends["two"] = [desk.accepted()]
    desk.drain()
    desk.order()
    operations.place_hold(scope=HoldScope.TARGET, name="gamma", reason="Audit.", actor=by("anna"))
    operations.pause_target(target="beta", reason="They move house.", actor=by("anna"))
    page = text_of(boss, _LIST)
    alpha, beta, gamma = (_line(page, name) for name in ("alpha", "beta", "gamma"))
    assert "✗ breaker open" in alpha
    assert "http_503" in alpha
    assert "0 of 7" in alpha
    assert "1, 1 later" in alpha
    assert "‖ paused" in beta
    assert "paused by anna" in beta
    assert "“They move house.”" in beta
    assert "0, no limit" in beta
    assert "⊖ held" in gamma
    assert "“Audit.”" in gamma
    assert desk.states_of(order)["two@1"] == "ACCEPTED"
    assert "0, no limit 1 0 1 0 crm" in beta  # under way, waiting, in doubt, accepted, held


def test_figures_lead_to_the_tasks_that_they_count(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    desk.target("alpha", reconcile_after=timedelta(hours=1))
    systems.sends["one"] = [desk.unknown()]
    desk.drain(["alpha"])
    operations.place_hold(
        scope=HoldScope.ITEM, name=f"{order.reference}/1", reason="x", actor=by("a")
    )
    desk.drain(["beta"])
    systems.sends["two"] = [desk.accepted()]
    desk.order()
    desk.drain(["beta"])
    page = text_of(boss, _LIST)
    for lookups in ("exact=OUTCOME_UNKNOWN", "held_by__isempty=0", "way=accepted", "to-be-sent"):
        links = re.findall(rf'href="([^"]*{lookups}[^"]*)">1<', page)
        assert len(links) == 1, lookups
        assert boss.get(links[0].replace("&amp;", "&")).context["cl"].result_count == 1


def test_a_ramp_shows_how_far_it_is(boss: Client, systems: ScriptedSystems) -> None:
    # However long it takes to ask for the page is nothing beside a ramp of days.
    ramp = timedelta(days=100)
    desk.target("alpha", ramp=ramp)
    operations.pause_target(target="alpha", reason="x", actor=by("anna"))
    operations.resume_target(target="alpha", reason="y", actor=by("anna"))
    desk.advance(0.4 * ramp.total_seconds())
    assert "↗</span> ramping up, 40%" in text_of(boss, address_of(TargetSystem, "change", "alpha"))
    desk.advance(0.6 * ramp.total_seconds())
    assert "✓</span> well" in text_of(boss, address_of(TargetSystem, "change", "alpha"))


def test_a_list_of_many_targets_costs_no_more_than_one_of_few(
    boss: Client, systems: ScriptedSystems
) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            text_of(boss, _LIST)
        return len(asked)

    _a_shop()
    few = cost()
    for number in range(20):
        desk.target(f"more-{number}")
    assert cost() == few


# --- editing them --------------------------------------------------------------------------------


def _form(**changes: Any) -> dict[str, Any]:
    return {
        "title": "Alpha",
        "queue": "crm",
        "adapter": "scripted",
        "settings": "{}",
        "idempotent": "on",
        "status_query": "on",
        "sender_slots": "16",
        "reconcile_after": "0",
        "maximum_queries": "20",
        "query_slots": "4",
        "rate_burst": "1",
        "breaker_pause": "10",
        "breaker_probes": "1",
        "lost_leases_limit": "5",
        **changes,
    }


def test_an_edit_is_logged_with_what_was_before_and_after(boss: Client) -> None:
    desk.target("alpha", title="Alpha")
    change = address_of(TargetSystem, "change", "alpha")
    policies = '{"*": {"maximum_attempts": 8}}'
    form = _form(
        concurrency_limit="12",
        rate_per_second="2.5",
        breaker_failures="3",
        ramp="60",
        retry_policies=policies,
        why="They asked for it.",
    )
    assert boss.post(change, form).status_code == 302
    row = TargetSystem.objects.get()
    assert (row.concurrency_limit, row.rate_per_second) == (12, 2.5)
    assert (row.breaker_failures, row.ramp) == (3, timedelta(minutes=1))
    assert row.retry_policies == {"*": {"maximum_attempts": 8}}
    entry = Operation.objects.get()
    assert (entry.kind, entry.subject, entry.actor) == ("edit_target", "target:alpha", "boss")
    assert entry.reason == "They asked for it."
    assert (
        set(entry.before)
        == set(entry.after)
        == {
            "concurrency_limit",
            "rate_per_second",
            "breaker_failures",
            "ramp",
            "retry_policies",
        }
    )
    assert (entry.before["concurrency_limit"], entry.after["concurrency_limit"]) == (None, 12)
    page = text_of(boss, change)
    assert "They asked for it." in page
    assert "edit_target" in page
    assert boss.post(change, form).status_code == 302
    assert Operation.objects.count() == 1  # Nothing was changed, so nothing is told.


def test_an_edit_does_not_undo_what_the_engine_has_counted(boss: Client) -> None:
    desk.target("alpha", breaker_failures=5)
    TargetCondition.objects.update(failures_in_a_row=3)
    form = _form(breaker_failures="4")
    assert boss.post(address_of(TargetSystem, "change", "alpha"), form).status_code == 302
    assert TargetCondition.objects.get().failures_in_a_row == 3


# --- pausing and resuming ------------------------------------------------------------------------


def _form_of(action: Action, subject: str = "target:alpha") -> str:
    return reverse("admin:fulfillment_operate", args=[action.value, subject])


def _do(
    client: Client, action: Action, reason: str, subject: str = "target:alpha", **more: str
) -> str:
    """See what it would do, and do that. Returns the page that follows."""
    address, asked = _form_of(action, subject), {"reason": reason, **more}
    seen = client.post(address, asked).context
    assert seen["preview"], seen["form"].errors
    shown = {"seen": seen["seen"], "version": seen["preview"].version}
    answer = client.post(address, asked | shown, follow=True)
    assert answer.redirect_chain
    return str(answer.content.decode())


def test_a_target_is_paused_and_resumed_with_a_reason(
    boss: Client, systems: ScriptedSystems
) -> None:
    order = _a_shop()
    desk.target("alpha", ramp=timedelta(seconds=30))
    change = address_of(TargetSystem, "change", "alpha")
    pause, resume = (_form_of(one) for one in (Action.TARGET_PAUSE, Action.TARGET_RESUME))
    assert pause in text_of(boss, change)
    assert resume not in text_of(boss, change)

    page = _do(boss, Action.TARGET_PAUSE, "They move house.")
    assert "Nothing is on the wire any more." in page
    assert resume in page
    assert pause not in page
    desk.drain()
    assert systems.actions() == ["two"]
    order_page = text_of(boss, address_of(Order, "change", order.pk))
    assert "alpha is paused by boss since" in order_page
    assert "“They move house.”" in order_page

    again = boss.post(pause, {"reason": "Again."})
    assert again.status_code == 409
    assert "is paused since" in again.content.decode()
    page = _do(boss, Action.TARGET_RESUME, "They have moved.")
    assert "its limits grow to their full size over 30 s." in page
    desk.drain()
    assert systems.actions() == ["two", "one"]
    assert "is not paused" in boss.post(resume, {"reason": "x"}).content.decode()
    told = list(Operation.objects.order_by("pk").values_list("kind", "actor", "reason"))
    assert told == [
        ("pause_target", "boss", "They move house."),
        ("resume_target", "boss", "They have moved."),
    ]


def test_calls_that_are_still_on_the_wire_are_told(
    boss: Client, systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    _a_shop()
    desk.claim("alpha")
    monkeypatch.setattr(pausing.await_target, "__kwdefaults__", {"patience": timedelta(0)})
    assert "1 call was still on the wire" in _do(boss, Action.TARGET_PAUSE, "x")


@pytest.fixture
def gate_busy(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on a worker stands still in the middle of a claim."""

    def busy(_: Any) -> None:
        raise GateBusy("A worker has stopped in the middle of a claim; try again.")

    return lambda: monkeypatch.setattr(holds, "close_gate", busy)


def test_what_can_not_be_done_now_is_said_on_the_page_and_nothing_changes(
    boss: Client, systems: ScriptedSystems, gate_busy: Callable[[], None]
) -> None:
    order = _a_shop()
    operations.pause_target(target="beta", reason="x", actor=by("boss"))
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("boss")
    )
    done = Operation.objects.count()
    gate_busy()
    for address in (
        _form_of(Action.TARGET_PAUSE),
        _form_of(Action.TARGET_RESUME, "target:beta"),
        _form_of(Action.HOLD_RELEASE, f"hold:{placed.hold_id}"),
        _form_of(Action.HOLD_PLACE),
    ):
        answer = boss.post(address, {"reason": "x"})
        assert answer.status_code in (200, 400)
        assert "stopped in the middle of a claim" in answer.content.decode()
    assert Operation.objects.count() == done


@pytest.mark.parametrize("reason", ["", "   "])
def test_nothing_is_done_without_a_reason(boss: Client, reason: str) -> None:
    desk.target("alpha")
    answer = boss.post(_form_of(Action.TARGET_PAUSE), {"reason": reason})
    assert "This field is required" in answer.content.decode()
    assert TargetCondition.objects.get().paused_at is None


@pytest.mark.parametrize("action", [Action.TARGET_PAUSE, Action.TARGET_RESUME, Action.HOLD_PLACE])
def test_who_may_only_look_can_stop_nothing(client: Client, action: Action) -> None:
    desk.target("alpha")
    clerk = _clerk(client, "view_targetsystem", "view_hold")
    address = _form_of(action)
    assert clerk.get(address).status_code == 403
    assert clerk.post(address, {"reason": "x"}).status_code == 403
    assert address not in text_of(clerk, address_of(TargetSystem, "change", "alpha"))
    assert not Operation.objects.exists()


def test_a_target_that_is_not_there_can_not_be_paused(boss: Client) -> None:
    for name in ("nothing", "a%00b"):
        address = _form_of(Action.TARGET_PAUSE, "target:NAME").replace("NAME", name)
        assert boss.post(address, {"reason": "x"}).status_code == 404


# --- holds ---------------------------------------------------------------------------------------


def test_a_hold_is_placed_seen_and_released(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    subject = f"order:{order.reference}"
    asked = boss.post(_PLACE, {"scope": "ORDER", "name": order.reference})
    assert asked.headers["Location"] == _form_of(Action.HOLD_PLACE, subject)
    page = _do(
        boss,
        Action.HOLD_PLACE,
        "It may be fraud.",
        subject,
        **{"parameter-until": "2199-01-01T10:00", "parameter-clock_policy": "STOP"},
    )
    assert f"Nothing more of {subject} is sent until hold" in page
    hold = Hold.objects.get()
    assert (hold.subject, hold.placed_by) == (subject, "boss")
    assert (hold.clock_policy, f"{hold.until:%Y-%m-%d %H:%M %Z}") == (
        "STOP",
        "2199-01-01 10:00 UTC",
    )
    desk.drain()
    assert systems.actions() == []
    at_the_hold = address_of(Hold, "change", hold.pk)
    task = desk.tasks_of(order)["one@1"]
    for address in (
        address_of(Hold, "changelist"),
        address_of(Order, "change", order.pk),
        address_of(Task, "change", task.pk),
    ):
        shown = text_of(boss, address)
        assert at_the_hold in shown
        assert "It may be fraud." in shown
    assert "⊖</span> placed" in text_of(boss, at_the_hold)

    release = _form_of(Action.HOLD_RELEASE, f"hold:{hold.pk}")
    assert release in text_of(boss, at_the_hold)
    page = _do(boss, Action.HOLD_RELEASE, "It is none.", f"hold:{hold.pk}")
    assert release not in page
    again = boss.post(release, {"reason": "x"})
    assert again.status_code == 409
    desk.drain()
    assert sorted(systems.actions()) == ["one", "two"]
    now, _, history = text_of(boss, address_of(Order, "change", order.pk)).partition("order-filter")
    assert at_the_hold not in now
    assert at_the_hold in history


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "O-0"}, "There is no order"),
        ({"scope": "TARGET", "name": "nowhere"}, "There is no target system"),
        ({"scope": "ACTION", "name": "alpha"}, "Name the action as"),
        ({"scope": "TASK", "name": "one"}, "There is no task"),
        ({"name": ""}, "This field is required"),
        ({"name": "\0"}, "Null characters are not allowed"),
        ({"scope": "WORLD"}, "Select a valid choice"),
    ],
)
def test_a_hold_that_can_not_be_placed_is_refused_beside_its_field(
    boss: Client, systems: ScriptedSystems, change: dict[str, str], words: str
) -> None:
    order = _a_shop()
    answer = boss.post(_PLACE, {"scope": "ORDER", "name": order.reference, **change})
    assert answer.status_code == 200
    assert words in " ".join(answer.content.decode().split())
    assert list(answer.context["form"].errors) == [next(reversed(change))]
    assert not Hold.objects.exists()


def test_pages_lead_to_the_form_of_a_hold(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    plan, task = desk.plan_of(order), desk.tasks_of(order)["one@1"]
    for model, pk, subject in (
        (Order, order.pk, f"order:{order.reference}"),
        (Plan, plan.pk, f"plan:{plan.pk}"),
        (Task, task.pk, f"task:{task.pk}"),
        (TargetSystem, "alpha", "target:alpha"),
    ):
        form = _form_of(Action.HOLD_PLACE, subject)
        assert form in text_of(boss, address_of(model, "change", pk))
        assert "Nothing in its scope is sent" in text_of(boss, form)


def test_holds_in_force_come_first(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    ids = [
        operations.place_hold(
            scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("anna")
        ).hold_id
        for _ in range(3)
    ]
    operations.release_hold(hold_id=ids[2] or 0, reason="y", actor=by("anna"))
    listed = boss.get(address_of(Hold, "changelist")).context["cl"].result_list
    assert [hold.pk for hold in listed] == [ids[1], ids[0], ids[2]]
    ordered = boss.get(address_of(Hold, "changelist"), {"released_at__isempty": "1"})
    assert {hold.pk for hold in ordered.context["cl"].result_list} == {ids[0], ids[1]}


def test_a_hold_says_whether_clocks_run_on(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("anna")
    )
    page = address_of(Hold, "change", placed.hold_id)
    assert "run on: what was promised stays due" in text_of(boss, page)
    Hold.objects.update(clock_policy="STOP")
    assert "stand still: what was promised is due later" in text_of(boss, page)


def test_a_name_that_no_target_system_may_have_is_refused_in_words(boss: Client) -> None:
    answer = boss.post(address_of(TargetSystem, "add"), {"name": "Bad Name"})
    assert "Letters, digits, - and _ only" in answer.content.decode()


def test_who_may_only_look_at_holds_neither_places_nor_releases(
    client: Client, systems: ScriptedSystems
) -> None:
    order = _a_shop()
    placed = operations.place_hold(
        scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("anna")
    )
    clerk = _clerk(client, "view_hold", "view_order")
    assert clerk.get(_PLACE).status_code == 403
    release = _form_of(Action.HOLD_RELEASE, f"hold:{placed.hold_id}")
    assert clerk.post(release, {"reason": "y"}).status_code == 403
    for model, pk in ((Order, order.pk), (Hold, placed.hold_id)):
        page = text_of(clerk, address_of(model, "change", pk))
        assert "hold.place" not in page
        assert release not in page
    assert Hold.objects.get().released_at is None


def test_the_log_tells_what_operators_did(boss: Client, systems: ScriptedSystems) -> None:
    order = _a_shop()
    operations.pause_target(target="alpha", reason="They <b>move</b>.", actor=by("anna"))
    operations.place_hold(scope=HoldScope.ORDER, name=order.reference, reason="x", actor=by("bert"))
    page = text_of(boss, address_of(Operation, "changelist"))
    assert "pause target" in page
    assert "They &lt;b&gt;move" in page
    assert address_of(TargetSystem, "change", "alpha") in page
    for entry in Operation.objects.all():
        text_of(boss, address_of(Operation, "change", entry.pk))
