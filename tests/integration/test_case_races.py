"""Many who work on the same case at the same moment."""

from __future__ import annotations

from collections.abc import Callable

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.engine.work import audit
from fulfillment.errors import NotPossible
from fulfillment.models import FalloutCase, Operation
from tests import desk, people
from tests.desk import ScriptedSystems
from tests.together import together


def test_of_many_who_take_a_case_one_has_it_and_the_others_are_told(
    committed_db: str, systems: ScriptedSystems
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()})
    systems.sends["one"] = [desk.rejected("no_stock")]
    order = desk.order()
    desk.drain()
    case = FalloutCase.objects.get()
    actors = [people.anybody(f"operator-{number}", Action.CASE_ASSIGN) for number in range(8)]

    def take(actor: Actor) -> Callable[[], str]:
        def run() -> str:
            try:
                request = operations.Request(
                    action=Action.CASE_ASSIGN, subject=f"case:{case.pk}", reason="mine"
                )
                return operations.perform(actor=actor, request=request).told
            except NotPossible as error:
                return f"refused: {error}"

        return run

    told = together(*map(take, actors))
    won = [one for one in told if not one.startswith("refused")]
    case.refresh_from_db()
    owner = case.assigned_to
    assert len(won) == 1
    assert sum(f"{owner} has case" in one for one in told) == 7
    assert Operation.objects.filter(kind="assign_case").count() == 1
    assert audit.verify(fulfillment_id=order.fulfillment_id) == []
