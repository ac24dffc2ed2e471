"""The targets board: its figures are right, and it shows what somebody may do about them."""

from __future__ import annotations

import re
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
from fulfillment.admin.target_cards import plot_of
from fulfillment.models import Attempt, FalloutCase, Incident, TargetSystem
from fulfillment.queries import systems as read_model
from fulfillment.queries.systems import STEPS, Calls, Health, Level, health
from tests import desk, people
from tests.desk import ScriptedSystems, by
from tests.pages import address_of, text_of

pytestmark = pytest.mark.django_db


def of(name: str) -> Health:
    (found,) = health(names=[name])
    return found


def whole_seconds(took: timedelta | None) -> int:
    """The clock goes on while a test runs."""
    assert took is not None
    return took // timedelta(seconds=1)


def _a_shop(**alpha: object) -> None:
    desk.target("alpha", **alpha)
    desk.target("beta")
    desk.workflow({"one": desk.task("alpha"), "two": desk.task("beta")})


def test_what_has_never_been_called_is_well() -> None:
    desk.target("alpha", title="Alpha, the first", sender_slots=8)
    found = of("alpha")
    assert (found.name, found.title, found.level) == ("alpha", "Alpha, the first", Level.WELL)
    assert found.hour == found.lately == Calls()
    assert len(found.course) == STEPS
    assert found.hour.share_in_vain == 0
    assert (found.rate, found.allowed_rate) == (0, None)
    assert (found.median, found.slow, found.waiting_for) == (None, None, None)
    assert (found.under_way, found.slots, found.is_limited) == (0, 8, False)
    assert (found.open_cases, found.incidents, found.trouble) == (0, (), "")


def test_calls_of_the_last_hour_are_told_by_how_they_ended(systems: ScriptedSystems) -> None:
    _a_shop()
    systems.sends["one"] = [
        desk.succeeded(),
        desk.accepted(),
        desk.rejected(),
        desk.failed(),
        desk.unknown(),
    ]
    systems.queries["one"] = [desk.not_found()]
    for _ in range(5):
        desk.order()
    desk.claim("beta")
    desk.drain(["alpha"], rounds=1)
    ended = of("alpha").lately
    assert (ended.refused, ended.failed, ended.unanswered) == (1, 1, 1)
    assert ended.well == Attempt.objects.filter(target="alpha").count() - 3
    assert ended.ended == ended.well + 3
    assert ended.in_vain == 2
    assert of("beta").lately == Calls()  # Its call is under way.
    assert of("beta").under_way == 1

    desk.advance(10 * 60)
    later = of("alpha")
    assert later.lately == Calls()
    assert later.hour == ended
    assert [place for place, one in enumerate(later.course) if one.ended] == [STEPS - 11]
    desk.advance(51 * 60)
    assert of("alpha").hour == Calls()


def test_the_rate_is_that_of_the_last_half_minute(systems: ScriptedSystems) -> None:
    _a_shop(rate_per_second=4.0, rate_burst=10)
    for _ in range(6):
        desk.order()
    desk.drain()
    found = of("alpha")
    assert (found.rate, found.allowed_rate) == (0.2, 4.0)
    desk.advance(31)
    assert of("alpha").rate == 0


def test_it_tells_how_long_calls_took(systems: ScriptedSystems) -> None:
    _a_shop()
    for seconds in (*[1] * 18, 7, 9):
        desk.order()
        (claimed,) = desk.claim("alpha")
        desk.advance(seconds)
        desk.settle_call(claimed, desk.succeeded())
    found = of("alpha")
    assert found.median is not None
    assert found.slow is not None
    assert 0.9 < found.median.total_seconds() < 1.1
    assert 6.3 < found.slow.total_seconds() < 7.7


def test_what_waits_is_told_apart(systems: ScriptedSystems) -> None:
    _a_shop()
    seldom = {"initial_interval": "PT100H", "maximum_interval": "PT100H", "maximum_attempts": 9}
    desk.workflow({"three": desk.task("alpha", retry=seldom)}, offering="fails")
    systems.sends["three"] = [desk.failed()]
    desk.order(desk.item("fails"))
    desk.drain(["alpha"])
    desk.order()
    desk.advance(90)
    desk.order()
    status = of("alpha").status
    assert (status.waiting, status.later, status.retrying) == (2, 1, 1)
    assert whole_seconds(of("alpha").waiting_for) == 90


def test_calls_in_vain_are_trouble_and_refusals_are_not(systems: ScriptedSystems) -> None:
    _a_shop(retry_policies={"*": {"initial_interval": "PT1H", "maximum_interval": "PT1H"}})
    systems.sends["one"] = [desk.failed() for _ in range(4)]
    systems.sends["two"] = [desk.rejected() for _ in range(5)]
    for _ in range(5):
        desk.order()
    desk.drain()
    assert of("beta").level is Level.WELL
    assert of("beta").lately.refused == 5
    alpha, beta = health(names=["beta", "alpha"])
    assert (alpha.name, alpha.level) == ("alpha", Level.FAILING)
    assert alpha.trouble == "4 of its 5 calls of the last five minutes were in vain."
    assert beta.trouble == ""


def test_those_in_trouble_come_first(systems: ScriptedSystems) -> None:
    for name in ("paused", "ramping", "well", "open"):
        desk.target(name, ramp=timedelta(minutes=10), breaker_failures=1)
    desk.workflow({"one": desk.task("open")})
    systems.sends["one"] = [desk.failed()]
    desk.order()
    desk.drain(["open"])
    operations.pause_target(target="paused", reason="They move.", actor=by("ann"))
    operations.pause_target(target="ramping", reason="x", actor=by("ann"))
    operations.resume_target(target="ramping", reason="y", actor=by("ann"))
    desk.advance(1)
    found = health()
    assert [one.name for one in found] == ["open", "paused", "ramping", "well"]
    assert [one.level for one in found] == [
        Level.FAILING,
        Level.STOPPED,
        Level.BUSY,
        Level.WELL,
    ]
    opened, paused, ramping, _ = found
    assert "does not answer properly (busy: Nothing happened.)" in opened.trouble
    assert "paused is paused by ann" in paused.trouble
    assert (ramping.slots, ramping.trouble) == (1, "")


def test_open_cases_and_incidents_stand_beside_their_target(systems: ScriptedSystems) -> None:
    _a_shop()
    systems.sends["one"] = [desk.rejected() for _ in range(3)]
    for _ in range(3):
        desk.order()
    desk.drain()
    assert FalloutCase.objects.count() == 3
    operations.group_cases()
    found, other = of("alpha"), of("beta")
    assert (found.open_cases, other.open_cases) == (3, 0)
    (incident,) = found.incidents
    assert incident.pk == Incident.objects.get().pk
    assert found.level is Level.FAILING
    assert incident.title in found.trouble
    Incident.objects.update(state="RESOLVED", resolved_at=desk.now())
    FalloutCase.objects.update(state="RESOLVED", resolved_at=desk.now())
    assert (of("alpha").open_cases, of("alpha").incidents) == (0, ())


def test_where_too_many_calls_were_made_it_says_since_when(
    systems: ScriptedSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    _a_shop()
    desk.order()
    desk.drain(["alpha"])
    desk.advance(1200)
    begun = desk.now()
    for _ in range(9):
        desk.order()
    desk.drain(["alpha"])
    whole = of("alpha")
    assert (whole.hour.ended, whole.since) == (10, whole.status.fitness.now - timedelta(hours=1))
    monkeypatch.setattr(
        read_model, "_CALLS", read_model._CALLS.replace(str(read_model.MOST_CALLS), "4")
    )
    some = of("alpha")
    assert some.hour.ended == 4
    assert some.since >= begun


# --- the page ------------------------------------------------------------------------------------


def board(client: Client) -> str:
    return text_of(client, reverse("desk_targets"))


def looks(client: Client, name: str, *actions: Action, **scopes: Any) -> Client:
    """Somebody who may see target systems, and do these things."""
    user = people.operator(name, *actions, **scopes)
    user.user_permissions.add(Permission.objects.get(codename="view_targetsystem"))
    client.force_login(user)
    return client


def form_of(action: Action, target: str) -> str:
    return reverse("admin:fulfillment_operate", args=[action.value, f"target:{target}"])


def test_the_board_says_what_is_wrong_and_what_may_be_done(
    client: Client, systems: ScriptedSystems
) -> None:
    _a_shop(concurrency_limit=7, rate_per_second=2.5, rate_burst=9)
    desk.target("beta", ramp=timedelta(seconds=90))
    systems.sends["one"] = [desk.rejected() for _ in range(3)]
    for _ in range(3):
        desk.order()
    desk.drain(["alpha"])
    operations.group_cases()
    operations.pause_target(target="beta", reason="They <b>move</b>.", actor=by("ann"))
    page = board(looks(client, "pat", Action.TARGET_PAUSE, Action.TARGET_RESUME))
    assert "1 failing · 1 paused or held" in page
    assert page.index('id="target-alpha"') < page.index('id="target-beta"')
    assert "They &lt;b&gt;move&lt;/b&gt;." in page
    assert "Resume over 1 min" in page
    assert form_of(Action.TARGET_RESUME, "beta") in page
    assert form_of(Action.TARGET_PAUSE, "alpha") in page
    assert form_of(Action.TARGET_RESUME, "alpha") not in page
    assert form_of(Action.TARGET_PAUSE, "beta") not in page
    assert "Last hour: 3 calls, none in vain" in page
    assert "of 7" in page
    assert "of 2.5" in page
    incident = Incident.objects.get()
    assert reverse("admin:fulfillment_incident_change", args=[incident.pk]) in page
    (cases,) = re.findall(r'href="([^"]*)">3 open cases', page)
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))
    assert boss.get(cases.replace("&amp;", "&")).context["cl"].result_count == 3
    (queue,) = re.findall(r'href="([^"]*to-be-sent[^"]*)">3</a>', page)
    assert boss.get(queue.replace("&amp;", "&")).context["cl"].result_count == 3


def test_only_what_somebody_may_do_there_is_shown(client: Client) -> None:
    _a_shop()
    nothing = board(looks(client, "anna"))
    assert "operate" not in nothing
    some = board(looks(client, "bert", Action.TARGET_PAUSE, targets=["beta"]))
    assert form_of(Action.TARGET_PAUSE, "beta") in some
    assert form_of(Action.TARGET_PAUSE, "alpha") not in some


def test_who_may_not_see_target_systems_does_not_see_the_board(client: Client) -> None:
    client.force_login(people.operator("nobody"))
    assert client.get(reverse("desk_targets")).status_code == 403
    assert reverse("desk_targets") not in text_of(client, reverse("admin:index"))


def test_without_target_systems_it_says_so(client: Client) -> None:
    assert "There is no target system yet" in board(looks(client, "anna"))


def test_a_board_of_many_costs_no_more_than_one_of_few(
    client: Client, systems: ScriptedSystems
) -> None:
    _a_shop()
    looks(client, "pat", Action.TARGET_PAUSE, Action.TARGET_RESUME)

    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            board(client)
        return len(asked)

    few = cost()
    for number in range(60):
        desk.target(f"more-{number}")
    systems.sends["one"] = [desk.rejected() for _ in range(3)]
    for _ in range(6):
        desk.order()
    desk.drain()
    operations.group_cases()
    assert cost() == few


def test_a_plot_has_a_column_for_each_minute_with_calls(systems: ScriptedSystems) -> None:
    _a_shop(reconcile_after=timedelta(hours=1))
    systems.sends["one"] = [desk.succeeded(), desk.unknown()]
    desk.order()
    desk.drain(["alpha"])
    desk.advance(120)
    desk.order()
    desk.drain(["alpha"])
    drawn = plot_of(of("alpha"))
    assert drawn.answered == "M57 16v-8.0h1V16z"
    assert drawn.in_vain.startswith("M59 16v")
    assert drawn.in_vain.count("M") == 1
    empty = plot_of(of("beta"))
    assert (empty.answered, empty.in_vain) == ("", "")


def test_the_page_of_a_target_tells_its_calls_and_its_history(
    client: Client, systems: ScriptedSystems
) -> None:
    _a_shop(breaker_failures=1)
    systems.sends["one"] = [desk.failed("http_503")]
    desk.order()
    desk.drain(["alpha"])
    operations.pause_target(target="alpha", reason="They look at it.", actor=by("ann"))
    looks(client, "pat", Action.TARGET_RESUME)
    page = text_of(client, address_of(TargetSystem, "change", "alpha"))
    assert "1 of 1" in page
    assert "They look at it." in page
    assert "It did not answer properly. http_503: Nothing happened." in page
    assert form_of(Action.TARGET_RESUME, "alpha") in page
    assert 'data-live-seconds="10"' in page
