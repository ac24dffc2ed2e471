"""What `why` says may be done: a command that can be typed, and a call that leads somewhere."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.urls import resolve

from fulfillment.models import Task
from fulfillment.queries.why import why
from fulfillment.states import Cause
from oms.models import Order
from tests import desk
from tests.desk import ScriptedSystems
from tests.integration.test_why import EVERY_WAIT, a_shop

pytestmark = pytest.mark.django_db
# These end soon, or when their time has come, and nobody can bring that forward.
_BY_ITSELF = {Cause.CALL, Cause.TIME, Cause.WINDOW}


@pytest.mark.parametrize("name", EVERY_WAIT)
def test_every_remedy_can_be_typed_and_called(systems: ScriptedSystems, name: str) -> None:
    prepare, _ = EVERY_WAIT[name]
    found = why(fulfillment_id=prepare().fulfillment_id)
    assert bool(found.remedies) == (found.cause not in _BY_ITSELF)
    for remedy in found.remedies:
        command, *arguments = shlex.split(remedy.command)
        # Raises CommandError for what the command does not take.
        load_command_class("fulfillment", command).create_parser("manage.py", command).parse_args(
            arguments
        )
        if remedy.call:
            method, path = remedy.call.split(" ")
            assert method == "POST"
            assert resolve(path.replace("ORDER", "O-1"))


def a_wait(wait: dict[str, object], **more: object) -> Callable[[], Order]:
    def made() -> Order:
        a_shop(desk.step(wait={"within": "PT1H", "otherwise": "escalate", **wait}, **more))
        return desk.order(external_id="WEB-1")

    return made


def too_late(order: Order) -> None:
    desk.advance(3700)
    desk.sweeping.sweep()
    assert desk.states_of(order)["one@1"] == "AWAITING_MANUAL"


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "prepare",
    [
        a_wait({"milestone": "paid"}),
        a_wait({"milestone": "paid"}, clock="stop"),
        a_wait({"signal": "paid", "key": "INV 7; rm"}),
        a_wait({"signal": "paid", "key": "INV-7"}, clock="stop"),
    ],
)
def test_the_report_that_is_proposed_ends_the_wait(
    systems: ScriptedSystems, prepare: Callable[[], Order], is_late: bool
) -> None:
    order = prepare()
    if is_late:
        too_late(order)
    remedy = why(fulfillment_id=order.fulfillment_id).remedies[0]
    call_command(*shlex.split(remedy.command))
    desk.finish()
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


@pytest.mark.parametrize("is_late", [False, True])
def test_the_milestone_of_another_order_is_reported_for_that_order(
    systems: ScriptedSystems, is_late: bool
) -> None:
    order = a_wait({"milestone": "ready", "order": "OTHER"})()
    other = desk.order(external_id="OTHER")
    Task.objects.filter(fulfillment_id=other.fulfillment_id).update(state="SUCCEEDED")
    if is_late:
        too_late(order)
    remedy = why(fulfillment_id=order.fulfillment_id).remedies[0]
    call_command(*shlex.split(remedy.command.replace("ORDER", other.reference)))
    desk.finish()
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


def test_the_status_of_one_target_system(
    systems: ScriptedSystems, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.target("alpha")
    desk.target("beta")
    call_command("targets", "status", "beta")
    printed = capsys.readouterr().out
    assert "beta" in printed
    assert "alpha" not in printed
    with pytest.raises(CommandError, match="no target system 'gamma'"):
        call_command("targets", "status", "beta", "gamma")
