"""Unmatched events: matched by hand (`event.match`), or looked at again (`event.replay`)."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.authorizing import Reach
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.dispatch.callbacks import Receipt, Report
from fulfillment.errors import (
    Denied,
    EvidenceMissing,
    NotPossible,
    ParametersInvalid,
    SubjectChanged,
    SubjectUnknown,
)
from fulfillment.models import (
    Command,
    Disposition,
    FalloutCase,
    InboundEvent,
    Operation,
    Transition,
)
from fulfillment.operations.repair import Done, Request
from fulfillment.queries import workload
from oms.models import Order
from tests import by_hand, desk, people
from tests.api import Api
from tests.desk import ScriptedSystems
from tests.pages import address_of, text_of
from tests.together import together

MATCH, REPLAY = Action.EVENT_MATCH, Action.EVENT_REPLAY


def reported(
    key: str, *, source: str = "alpha", event_id: str = "e-1", status: str = "succeeded"
) -> Receipt:
    """As it comes over HTTP: the body is kept as it was understood."""
    body: dict[str, Any] = {
        "event_id": event_id,
        "idempotency_key": key,
        "status": status,
        "outputs": {"number": "N-1"},
        "reference": "R-1",
    }
    return callbacks.receive(
        report=Report(
            source=source,
            event_id=event_id,
            idempotency_key=key,
            outcome=desk.succeeded(number="N-1"),
            body=body,
        )
    )


def waiting_order() -> Order:
    """alpha has accepted `one`, and is to report with its key."""
    desk.target("alpha")
    desk.target("beta")
    desk.workflow(
        {
            "one": desk.task(outputs={"number": "string"}),
            "two": desk.task("beta", after=["one"]),
        }
    )
    desk.systems.sends["one"] = [desk.accepted()]
    order = desk.order()
    desk.drain()
    return order


@pytest.fixture
def order(db: None, systems: ScriptedSystems) -> Order:
    return waiting_order()


@pytest.fixture
def event(order: Order) -> InboundEvent:
    """It has come with a key that nobody knows."""
    assert reported("wrong-key").disposition is Disposition.UNMATCHED
    return InboundEvent.objects.get()


def matching(event: InboundEvent, *, expected: str = "", **parameters: Any) -> Request:
    return by_hand.request(MATCH, f"event:{event.pk}", expected=expected, **parameters)


def match(event: InboundEvent, **parameters: Any) -> Done:
    return operations.perform(actor=desk.by("ops"), request=matching(event, **parameters))


def test_it_settles_the_task_that_a_person_has_named(order: Order, event: InboundEvent) -> None:
    done = match(event, task=f"{order.reference}/one@1")
    assert done.told == (
        f"Event e-1 of alpha is about one@1 of {order.reference}, and has moved it."
    )
    task = desk.tasks_of(order)["one@1"]
    assert (str(task.state), task.outputs, task.reference) == (
        "SUCCEEDED",
        {"number": "N-1"},
        "R-1",
    )
    event.refresh_from_db()
    assert (event.disposition, event.task_id) == (Disposition.APPLIED, task.pk)
    desk.finish()
    order.refresh_from_db()
    assert str(order.state) == "COMPLETED"
    assert by_hand.is_intact(order)


def test_it_settles_the_command_whose_key_is_named(order: Order, event: InboundEvent) -> None:
    match(event, idempotency_key=Command.objects.get(action="one").idempotency_key)
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


def test_the_preview_is_what_is_done_and_changes_nothing(order: Order, event: InboundEvent) -> None:
    before = by_hand.everything()
    asked = matching(event, task=f"{order.reference}/one@1")
    seen = by_hand.previewed(asked, actor=desk.by("ops"))
    assert by_hand.differing(before) == []
    assert [(one["entity"], one["transition"]) for one in seen.transitions] == [
        ("task", "succeed"),
        ("task", "make_ready"),
        ("event", "match_event"),
    ]
    done = match(event, task=f"{order.reference}/one@1")
    assert (done.told, done.after) == (seen.done.told, seen.done.after)


def test_an_event_of_one_system_settles_no_task_of_another(
    order: Order, event: InboundEvent
) -> None:
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="settles no task of another system"):
        match(event, task=f"{order.reference}/two@1")
    systems_key = "no-such-key"
    with pytest.raises(NotPossible, match="No command of alpha has this key"):
        match(event, idempotency_key=systems_key)
    assert by_hand.differing(before) == []


def test_matched_once_it_is_not_matched_again(order: Order, event: InboundEvent) -> None:
    asked = matching(event, task=f"{order.reference}/one@1")
    seen = by_hand.previewed(asked, actor=desk.by("bob"))
    match(event, task=f"{order.reference}/one@1")
    before = by_hand.everything()
    with pytest.raises(NotPossible, match=r"is APPLIED already. one@1 has had it"):
        match(event, task=f"{order.reference}/one@1")
    late = matching(event, task=f"{order.reference}/one@1", expected=seen.version)
    with pytest.raises(SubjectChanged, match="It is APPLIED since .* by ops"):
        operations.perform(actor=desk.by("bob"), request=late)
    assert by_hand.differing(before) == []


def test_the_same_event_again_after_it_was_matched_changes_nothing(
    order: Order, event: InboundEvent
) -> None:
    match(event, task=f"{order.reference}/one@1")
    before = by_hand.everything()
    assert reported("wrong-key").duplicate
    assert by_hand.differing(before) == []
    key = Command.objects.get(action="one").idempotency_key
    assert reported(key, event_id="e-2").disposition is Disposition.REDUNDANT


def test_what_contradicts_the_task_opens_a_case(order: Order, event: InboundEvent) -> None:
    key = Command.objects.get(action="one").idempotency_key
    callbacks.receive(
        report=Report(
            source="alpha", event_id="no", idempotency_key=key, outcome=desk.rejected(), body={}
        )
    )
    done = match(event, task=f"{order.reference}/one@1")
    assert "contradicts how that was settled" in done.told
    assert FalloutCase.objects.filter(category="CONFLICT", state="OPEN").exists()
    event.refresh_from_db()
    assert event.disposition == Disposition.CONFLICTING


def test_whoever_may_not_where_the_task_is_changes_nothing(
    order: Order, event: InboundEvent
) -> None:
    asked = matching(event, task=f"{order.reference}/one@1")
    before = by_hand.everything()
    for actor in (
        people.anybody(),
        people.actor(people.operator("bob", MATCH, targets=["beta"])),
        people.actor(people.operator("eve", MATCH, targets=["alpha"], products=["other"])),
    ):
        with pytest.raises(Denied):
            operations.perform(actor=actor, request=asked)
    assert by_hand.differing(before) == []
    may = people.actor(people.operator("kim", MATCH, targets=["alpha"], products=["thing"]))
    operations.perform(actor=may, request=asked)
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


def test_it_is_offered_to_whoever_may_do_it_somewhere_until_it_is_done(
    order: Order, event: InboundEvent
) -> None:
    def offered() -> dict[str, tuple[bool, bool]]:
        found = operations.offers(reach=Reach(actor=kim), subject=f"event:{event.pk}")
        return {str(one.repair.action): (one.is_allowed, one.is_possible) for one in found}

    kim = people.actor(people.operator("kim", MATCH, products=["thing"]))
    aside = {"event.dismiss": (False, True), "event.restore": (False, False)}
    assert offered() == {"event.match": (True, True), "event.replay": (False, True), **aside}
    match(event, task=f"{order.reference}/one@1")
    assert offered() == dict.fromkeys(offered(), (False, False)) | {"event.match": (True, False)}


def test_what_is_missing_is_said(order: Order, event: InboundEvent) -> None:
    with pytest.raises(ParametersInvalid, match="name the task"):
        match(event)
    with pytest.raises(SubjectUnknown):
        match(event, task="O-404/one@1")
    with pytest.raises(SubjectUnknown, match="no event 404"):
        operations.perform(actor=desk.by("ops"), request=by_hand.request(MATCH, "event:404"))
    with pytest.raises(EvidenceMissing):
        operations.perform(
            actor=desk.by("ops"),
            request=Request(
                action=MATCH,
                subject=f"event:{event.pk}",
                reason="x",
                parameters={"task": f"{order.reference}/one@1"},
            ),
        )


def test_what_nobody_can_read_settles_nothing(order: Order) -> None:
    callbacks.park(source="alpha", event_id="u-1", idempotency_key="", body={"reason": "?"})
    event = InboundEvent.objects.get()
    with pytest.raises(NotPossible, match="Nobody can read it as a report"):
        match(event, task=f"{order.reference}/one@1")


def test_the_record_has_the_event_and_its_task(order: Order, event: InboundEvent) -> None:
    match(event, task=f"{order.reference}/one@1")
    record = Operation.objects.get(kind="match_event")
    assert (record.subject, record.order_reference) == (f"event:{event.pk}", order.reference)
    assert record.after == {"disposition": "APPLIED", "task": "one@1", "state": "SUCCEEDED"}
    assert record.evidence == by_hand.EVIDENCE
    row = Transition.objects.get(entity="event")
    assert (row.name, row.actor, row.from_state, row.to_state) == (
        "match_event",
        "ops",
        "UNMATCHED",
        "APPLIED",
    )


# --- looked at again ----------------------------------------------------------------------------


def replay(event: InboundEvent) -> Done:
    asked = by_hand.request(REPLAY, f"event:{event.pk}")
    return operations.perform(actor=desk.by("ops"), request=asked)


def test_looked_at_again_it_finds_its_task(order: Order) -> None:
    """Such as one that could not be applied, and whose reason is mended."""
    key = Command.objects.get(action="one").idempotency_key
    reported("another", event_id="e-9")
    InboundEvent.objects.update(idempotency_key=key)
    done = replay(InboundEvent.objects.get())
    assert "has moved it" in done.told
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"


def test_the_same_request_to_replay_it_is_answered_as_before(order: Order) -> None:
    reported("another")
    key = Command.objects.get(action="one").idempotency_key
    InboundEvent.objects.update(idempotency_key=key)
    api = Api(user=people.operator("rita", REPLAY))
    body = {"action": "event.replay", "subject": f"event:{InboundEvent.objects.get().pk}"}
    first, again = (
        api.send("POST", "/operations", {**body, "reason": "Mended."}, Idempotency_Key="k-1")
        for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (200, 200)
    assert again["Idempotent-Replayed"] == "true"
    assert Operation.objects.filter(kind="replay_event").count() == 1


def test_while_it_finds_none_it_stays_where_it_is(event: InboundEvent) -> None:
    before = by_hand.everything()
    with pytest.raises(NotPossible, match="Still no command of alpha has its key"):
        replay(event)
    assert by_hand.differing(before) == []


def test_whoever_may_not_replays_nothing(event: InboundEvent) -> None:
    before = by_hand.everything()
    with pytest.raises(Denied):
        operations.perform(
            actor=people.anybody(), request=by_hand.request(REPLAY, f"event:{event.pk}")
        )
    assert by_hand.differing(before) == []


# --- at once ------------------------------------------------------------------------------------


def test_of_two_who_match_it_at_once_one_wins(committed_db: None, systems: ScriptedSystems) -> None:
    orders = [waiting_order(), desk.order()]
    desk.drain()
    reported("wrong-key")
    event = InboundEvent.objects.get()

    def matched(order: Order, name: str) -> str:
        asked = matching(event, task=f"{order.reference}/one@1")
        try:
            operations.perform(actor=desk.by(name), request=asked)
        except NotPossible as error:
            return str(error)
        return "done"

    told = together(lambda: matched(orders[0], "anna"), lambda: matched(orders[1], "bob"))
    assert told.count("done") == 1
    assert any("already" in one for one in told)
    assert Operation.objects.filter(kind="match_event").count() == 1
    assert Transition.objects.filter(name="succeed").count() == 1
    assert Transition.objects.filter(entity="event").count() == 1


# --- set aside ----------------------------------------------------------------------------------

DISMISS, RESTORE = Action.EVENT_DISMISS, Action.EVENT_RESTORE


def done(action: Action, event: InboundEvent) -> Done:
    asked = by_hand.request(action, f"event:{event.pk}")
    return operations.perform(actor=desk.by("ops"), request=asked)


def fate(event: InboundEvent) -> str:
    event.refresh_from_db()
    return str(event.disposition)


def test_what_is_about_nothing_of_ours_is_set_aside_and_brought_back(event: InboundEvent) -> None:
    before = by_hand.everything()
    told = done(DISMISS, event).told
    assert told == "Event e-1 of alpha is set aside: it is about nothing of ours."
    assert fate(event) == "DISMISSED"
    assert set(by_hand.differing(before)) == {
        "fulfillment_inboundevent",
        "fulfillment_operation",
    }
    record = Operation.objects.get(kind="dismiss_event")
    assert (record.subject, record.actor, record.reason) == (
        f"event:{event.pk}",
        "ops",
        "The customer has rung.",
    )
    assert (record.before, record.after) == (
        {"disposition": "UNMATCHED"},
        {"disposition": "DISMISSED"},
    )
    with pytest.raises(NotPossible, match="already"):
        done(DISMISS, event)
    done(RESTORE, event)
    assert fate(event) == "UNMATCHED"
    with pytest.raises(NotPossible, match="only what was set aside"):
        done(RESTORE, event)


def test_what_was_set_aside_is_not_counted_and_may_be_matched_all_the_same(
    order: Order, event: InboundEvent
) -> None:
    assert workload.backlog().unmatched == 1
    done(DISMISS, event)
    assert workload.backlog().unmatched == 0
    match(event, task=f"{order.reference}/one@1")
    assert fate(event) == "APPLIED"
    assert desk.states_of(order)["one@1"] == "SUCCEEDED"
    assert Transition.objects.get(entity="event").from_state == "DISMISSED"
    with pytest.raises(NotPossible, match="it has its task"):
        done(DISMISS, event)


def test_what_was_set_aside_finds_its_task_when_it_comes_again(order: Order) -> None:
    reported("another")
    event = InboundEvent.objects.get()
    done(DISMISS, event)
    again = reported("another")
    assert (again.disposition, again.duplicate) == (Disposition.DISMISSED, True)
    key = Command.objects.get(action="one").idempotency_key
    InboundEvent.objects.update(idempotency_key=key)
    assert reported(key).disposition is Disposition.APPLIED
    assert fate(event) == "APPLIED"


def test_whoever_sets_aside_what_has_a_key_of_ours_is_told_whose(order: Order) -> None:
    """Such as what nobody can read."""
    key = Command.objects.get(action="one").idempotency_key
    callbacks.park(source="alpha", event_id="u-1", idempotency_key=key, body={"reason": "?"})
    told = done(DISMISS, InboundEvent.objects.get()).told
    assert f"the key of one@1 of {order.reference}, which stays ACCEPTED" in told


def test_its_page_says_who_has_set_it_aside_and_leads_back(boss: Client, event: Any) -> None:
    page = address_of(InboundEvent, "change", event.pk)
    assert "Set it aside</a>" in text_of(boss, page)
    done(DISMISS, event)
    said = text_of(boss, page)
    assert "ops has set it aside" in said
    assert "“The customer has rung.”" in said
    assert "Bring it back</a>" in said
    assert "What it may be about" not in said


def test_setting_aside_is_neither_shown_to_others_nor_done_by_them(event: InboundEvent) -> None:
    eve = people.operator("eve", MATCH)
    eve.user_permissions.add(Permission.objects.get(codename="view_inboundevent"))
    browser = Client()
    browser.force_login(eve)
    assert "Set it aside" not in text_of(browser, address_of(InboundEvent, "change", event.pk))
    with pytest.raises(Denied):
        operations.perform(
            actor=people.actor(eve), request=by_hand.request(DISMISS, f"event:{event.pk}")
        )
    assert fate(event) == "UNMATCHED"


def test_of_two_who_match_it_and_set_it_aside_at_once_nobody_undoes_the_other(
    committed_db: None, systems: ScriptedSystems
) -> None:
    order = waiting_order()
    reported("wrong-key")
    event = InboundEvent.objects.get()
    asked = matching(event, task=f"{order.reference}/one@1")

    def tried(request: Request, name: str) -> str:
        try:
            operations.perform(actor=desk.by(name), request=request)
        except NotPossible as error:
            return str(error)
        return "done"

    dismissal = by_hand.request(DISMISS, f"event:{event.pk}")
    told = together(lambda: tried(asked, "anna"), lambda: tried(dismissal, "bob"))
    # What was set aside first may be matched all the same.
    assert told[0] == "done"
    assert fate(event) == "APPLIED"
