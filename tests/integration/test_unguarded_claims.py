"""The claim looks once more whether what can't be taken back is guarded."""

from __future__ import annotations

from fulfillment.states import TaskState
from tests import desk
from tests.by_force import as_owner
from tests.desk import ScriptedSystems
from tests.integration.test_giving_up import guarded


def test_the_claim_itself_does_not_send_what_is_not_guarded(
    committed_db: str, redis_url: str, systems: ScriptedSystems
) -> None:
    guarded()
    order = desk.order()
    desk.drain(["alpha"])
    desk.drain(["beta"])
    tasks = desk.tasks_of(order)
    assert tasks["ship@1"].state == TaskState.READY
    # As if the check were done again, which no transition leads to.
    as_owner(f"UPDATE fulfillment_task SET state = 'READY' WHERE id = {tasks['check@1'].pk}")
    assert desk.claim("alpha") == []
    assert desk.tasks_of(order)["ship@1"].state == TaskState.PENDING
