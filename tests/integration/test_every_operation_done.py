"""What holds for every operation there is when it is done: previewed, recorded, and done once.

Each is carried out in a scene of its own (`tests.scenes`); nothing here goes by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from django.db.models import Max, Model

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work import audit
from fulfillment.errors import Denied, EvidenceMissing, NotPossible, ReasonMissing, SubjectUnknown
from fulfillment.models import AuthorityDecision, Command, Operation, Transition
from fulfillment.operations.preparing import Preview
from fulfillment.operations.repair import Done, Repair
from tests import by_hand, desk, people, scenes

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("systems")]
REPAIRS = list(operations.every_repair())
each = pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
_NUMBERED = {
    Action.HOLD_PLACE,
    Action.SIGNAL_SEND,
    Action.PLAN_COMPENSATE,
    Action.PLAN_REGENERATE,
}
"""What they make has a number, and a preview takes one as well."""
_GONE = {Action.LOCK_BREAK}
"""What it was about is not there any more."""
_AGAIN = {
    Action.HOLD_PLACE,
    Action.SIGNAL_SEND,
    Action.CASE_ESCALATE,
    Action.INCIDENT_RELEASE,
    Action.PLAN_REGENERATE,
}
"""A second hold, report, level or draft is one more, and is meant."""


def test_there_is_a_scene_for_every_operation() -> None:
    assert set(scenes.SCENES) == {repair.action for repair in REPAIRS}


@each
def test_the_preview_changes_nothing_and_is_what_is_done(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    olga = scenes.operator("olga")
    before = by_hand.everything()
    shown = by_hand.previewed(asked, actor=olga)
    assert by_hand.differing(before) == []

    transition = _last(Transition)
    command = _last(Command)
    done = scenes.done(asked, actor=olga)
    assert by_hand.differing(before) != []
    # Of some it is told besides what is still on the wire once they are done.
    assert _plain(repair, done.told).startswith(_plain(repair, shown.done.told))
    assert _changed(repair, done) == _changed(repair, shown.done)
    moved = Transition.objects.filter(pk__gt=transition).exclude(entity="approval").order_by("pk")
    assert _moves(shown) == sorted(
        (one.entity, one.name, one.from_state, one.to_state)
        for one in moved
        if one.from_state != one.to_state
    )
    written = Command.objects.filter(pk__gt=command).order_by("pk")
    assert [(one["target"], one["action"], one["payload"]) for one in shown.commands] == [
        (one.target_id, one.action, one.payload) for one in written
    ]


@each
def test_the_record_says_who_when_why_by_what_authority_and_what_it_means(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    olga = scenes.operator("olga")
    prepared = operations.prepared(actor=olga, request=asked)
    begun = desk.now()
    transition = _last(Transition)
    done = scenes.done(asked, actor=olga)

    record = Operation.objects.get(pk=done.record)
    assert (record.kind, record.actor, record.reason) == (repair.kind, "olga", asked.reason)
    assert record.subject in (prepared.found.subject, prepared.found.logged_as)
    assert record.evidence == asked.evidence
    assert re.fullmatch(r"grant \d+ of olga", record.authority)
    assert begun <= record.happened_at <= desk.now()
    assert record.before != record.after
    assert (record.before, record.after) == (_json(done.before), _json(done.after))
    assert record.customer_impact
    assert record.financial_impact
    assert record.order_reference == prepared.found.context.order_reference
    if prepared.needs is None:
        assert record.approval is None
    else:
        assert record.approval is not None
        assert (record.approval.needs, record.approval.state) == (prepared.needs, "EXECUTED")
        assert record.approval.requested_by.username == "olga"
        assert record.approval.decided_by is not None
        assert record.approval.decided_by.username == "sarah"
    if prepared.found.fulfillment_ids and repair.is_audited:
        told = Transition.objects.filter(
            pk__gt=transition, fulfillment_id__in=prepared.found.fulfillment_ids, actor="olga"
        )
        assert any(asked.reason in f"{one.cause} {one.details}" for one in told)
        assert audit.verify(fulfillment_id=prepared.found.fulfillment_ids[0]) == []


@each
def test_whoever_has_looked_at_it_before_is_told_who_has_changed_it(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    olga, oscar = scenes.operator("olga"), _another(repair)
    version = by_hand.previewed(asked, actor=oscar).version
    scenes.done(asked, actor=olga)
    before = by_hand.everything()
    late = by_hand.expecting(asked, version)
    with pytest.raises((NotPossible, SubjectUnknown)) as told:
        scenes.done(late, actor=oscar)
    assert by_hand.differing(before) == []
    if repair.action not in _GONE:
        assert "olga" in str(told.value)


@each
def test_done_again_it_does_nothing_or_something_that_can_be_done_again(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    olga, oscar = scenes.operator("olga"), _another(repair)
    scenes.done(asked, actor=olga)
    before = by_hand.everything()
    if repair.action in _AGAIN:
        scenes.done(asked, actor=oscar)
        assert Operation.objects.filter(kind=repair.kind).count() == 2
        return
    with pytest.raises((NotPossible, SubjectUnknown)):
        scenes.done(asked, actor=oscar)
    assert by_hand.differing(before) == []


@each
def test_a_grant_for_elsewhere_allows_nothing_and_leaves_a_denial(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    eve = people.actor(people.operator("eve", *people.EVERYTHING, regions=["XX"]))
    before, denials = by_hand.everything(), _denials()
    with pytest.raises(Denied, match="does not cover|for manager"):
        operations.prepared(actor=eve, request=asked)
    assert by_hand.differing(before) == []
    assert _denials() == denials + 1


@each
def test_nothing_is_done_without_saying_why(repair: Repair) -> None:
    asked = scenes.request_for(repair.action)
    olga = scenes.operator("olga")
    before = by_hand.everything()
    with pytest.raises(ReasonMissing):
        operations.prepared(actor=olga, request=replace(asked, reason=" \n"))
    if repair.needs_evidence:
        with pytest.raises(EvidenceMissing):
            operations.prepared(actor=olga, request=replace(asked, evidence=" \n"))
    assert by_hand.differing(before) == []


def _another(repair: Repair) -> Actor:
    """Somebody else; nobody else gives back what olga has, but she may from two places."""
    return scenes.operator("olga" if repair.action is Action.MANUAL_RELEASE else "oscar")


def _last(model: type[Model]) -> int:
    return model._default_manager.aggregate(last=Max("pk"))["last"] or 0


def _denials() -> int:
    return AuthorityDecision.objects.filter(is_allowed=False).count()


def _json(values: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(values), default=str))


def _plain(repair: Repair, told: str) -> str:
    return re.sub(r"\d+", "#", told) if repair.action in _NUMBERED else told


def _changed(repair: Repair, done: Done) -> tuple[str, str, str]:
    values = json.dumps([dict(done.before), dict(done.after)], default=str)
    return _plain(repair, values), done.customer_impact, done.financial_impact


def _moves(shown: Preview) -> list[tuple[str, str, str, str]]:
    return sorted(
        (one["entity"], one["transition"], one["from"], one["to"]) for one in shown.transitions
    )
