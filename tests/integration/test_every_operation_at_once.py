"""Two people do the same at the same moment, each as they have looked at it: one does it.

For every operation there is, with a real commit: what one of them has been allowed to go on with,
nobody else changes until that is done, and the other is told who was first.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.audit.verifying import verify
from fulfillment.authority.actors import Actor
from fulfillment.authority.authorizing import holders
from fulfillment.engine.work.unit import Unit
from fulfillment.errors import ApprovalNotOpen, NotPossible, SubjectUnknown
from fulfillment.models import Operation
from fulfillment.operations.repair import Done, Found, Repair, Request
from tests import by_hand, people, scenes
from tests.together import closing
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("committed_db", "redis_url", "systems")
REPAIRS = list(operations.every_repair())


def doing(asked: Request, *, actor: Actor) -> Callable[[], str]:
    """What does it; empty for whoever has done it, and else what they are told."""
    prepared = operations.prepared(actor=actor, request=asked)
    if prepared.needs is None:
        return _told(lambda: operations.perform(actor=actor, request=asked))
    approval = operations.ask_for_approval(prepared=prepared)
    senior = people.senior()
    return _told(
        lambda: operations.approve(approval_id=approval.pk, actor=senior, reason="Agreed.")
    )


def _told(work: Callable[[], object]) -> Callable[[], str]:
    def run() -> str:
        try:
            work()
        except (NotPossible, SubjectUnknown, ApprovalNotOpen) as error:
            return str(error)
        return ""

    return run


def _somebody_waits() -> bool:
    """For a lock that the transaction of this thread has."""
    with connection.cursor() as raw:
        raw.execute(
            "SELECT count(*) FROM pg_locks "
            "WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        ((waiting,),) = raw.fetchall()
    return bool(waiting)


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.action.value)
def test_whoever_was_let_in_does_it_and_the_other_is_told(
    repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scenes.request_for(repair.action)
    one = scenes.operator("olga")
    # Nobody else gives back what she has, but she may from two places.
    other = one if repair.action is Action.MANUAL_RELEASE else scenes.operator("oscar")
    version = by_hand.previewed(asked, actor=one).version
    first = doing(by_hand.expecting(asked, version), actor=one)
    second = doing(
        replace(by_hand.expecting(asked, version), reason="Somebody else's."), actor=other
    )

    before = Operation.objects.filter(kind=repair.kind).count()
    with ThreadPoolExecutor(2) as threads:
        overtaking: list[Future[str]] = []
        looked_at = type(repair).version

        def version_of(self: Repair, unit: Unit, found: Found) -> str:
            """The first is let in; then the other one comes, and gets as far as it gets."""
            seen = looked_at(self, unit, found)
            if not overtaking:
                overtaking.append(threads.submit(closing(second)))
                until(lambda: overtaking[0].done() or _somebody_waits())
            return seen

        monkeypatch.setattr(type(repair), "version", version_of)
        said = threads.submit(closing(first)).result()
        answers = [said, overtaking[0].result()]

    assert answers.count("") == 1, answers
    assert Operation.objects.filter(kind=repair.kind).count() == before + 1
    (told,) = filter(None, answers)
    if repair.action is not Action.LOCK_BREAK:  # What is gone has nobody any more.
        assert "olga" in told or "oscar" in told
    assert [str(one) for one in verify()] == []


def test_of_the_last_two_seniors_one_stays_whoever_sends_them_away_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each who does it sees the other one left."""
    people.senior("sarah")
    people.senior("sam")

    def sending_away(name: str, *, by: str) -> Callable[[], str]:
        actor = people.anybody(by, Action.GRANT_EDIT)
        asked = by_hand.request(Action.GRANT_EDIT, f"user:{name}", is_active=False)
        return _told(lambda: operations.perform(actor=actor, request=asked))

    first, second = sending_away("sarah", by="anna"), sending_away("sam", by="otto")
    repair = operations.repair_of(Action.GRANT_EDIT)
    carry_out = type(repair).carry_out
    with ThreadPoolExecutor(2) as threads:
        overtaking: list[Future[str]] = []

        def carried_out(self: Repair, *given: Any) -> Done:
            done = carry_out(self, *given)
            if not overtaking:
                overtaking.append(threads.submit(closing(second)))
                until(lambda: overtaking[0].done() or _somebody_waits())
            return done

        monkeypatch.setattr(type(repair), "carry_out", carried_out)
        answers = [threads.submit(closing(first)).result(), overtaking[0].result()]

    assert answers[0] == ""
    assert "Nobody would be left" in answers[1]
    assert len(holders(action=Action.APPROVE_SENIOR)) == 1
