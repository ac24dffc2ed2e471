"""For every operation there is: something to which it can be done now, and what asks for it.

`request_for(action)` makes the order, the case or the target system, and returns the request.
What is made is the least that is needed; everything else an operation's own tests have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.models import Group, User

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, engine
from fulfillment.models import (
    BulkJob,
    Command,
    FalloutCase,
    Hold,
    HoldScope,
    InboundEvent,
    Incident,
    ManualTask,
    Resource,
    Task,
)
from fulfillment.operations import bulk
from fulfillment.operations.repair import Done, Request
from oms.models import Order
from tests import by_hand, desk, manual_work, people
from tests.desk import by
from tests.integration import (
    test_amendment,
    test_repair_event,
    test_repair_reference,
    test_resource_locks,
)

_UNDONE: dict[str, Any] = {"action": "release", "input": {}}


def request_for(action: Action) -> Request:
    """What can be done now, by whoever may; nothing of it was done."""
    subject, parameters = SCENES[action]()
    return by_hand.request(action, subject, **parameters)


def operator(name: str) -> Actor:
    """Somebody who may ask for everything, and whom workflows may ask."""
    actor = people.almighty(name)
    role, _ = Group.objects.get_or_create(name="manager")
    User.objects.get(pk=actor.user_id).groups.add(role)
    return actor


def done(asked: Request, *, actor: Actor) -> Done:
    """By one person; where it takes two, by two."""
    prepared = operations.prepared(actor=actor, request=asked)
    if prepared.needs is None:
        return prepared.perform()
    return by_hand.done_by_two(asked, actor=actor)


Scene = tuple[str, Mapping[str, Any]]
"""The subject, and what the operation is told."""


def _stuck(count: int = 1) -> list[Order]:
    """Each has reserved, and can't be shipped."""
    desk.target("alpha")
    desk.workflow(
        {
            "reserve": desk.task(compensation=_UNDONE),
            "ship": desk.task(after=["reserve"], compensation=_UNDONE),
        }
    )
    desk.systems.sends["ship"] = [desk.rejected()] * count
    orders = [desk.order() for _ in range(count)]
    desk.finish()
    return orders


def _order(**parameters: Any) -> Scene:
    (order,) = _stuck()
    return by_hand.of(order), parameters


def _task(key: str, **parameters: Any) -> Scene:
    (order,) = _stuck()
    return f"task:{desk.tasks_of(order)[key].pk}", parameters


def _case(**parameters: Any) -> Scene:
    _stuck()
    return f"case:{FalloutCase.objects.get().pk}", parameters


def _reconciled() -> Scene:
    order = manual_work.in_doubt(desk.systems)
    return f"task:{desk.tasks_of(order)['one@1'].pk}", {"happened": False}


def _referenced() -> Scene:
    _, task = test_repair_reference.a_task_that_owes_something()
    return f"task:{task.pk}", {"reference": "R-1", "outputs": {"number": "7"}}


def _changed() -> Scene:
    test_amendment.product()
    order = test_amendment.an_order(test_amendment.line())
    test_amendment.step(desk.systems, "reserve", "build")
    blue = test_amendment.line(characteristics={"colour": "blue"})
    document = test_amendment.as_submitted(test_amendment.revision(order, blue))
    return by_hand.of(order), {"version": 2, "order": document}


def _manual(**parameters: Any) -> Scene:
    manual_work.asked()
    return f"manual:{ManualTask.objects.get().pk}", parameters


def _given_back() -> Scene:
    subject, _ = _manual()
    manual = ManualTask.objects.get()
    operations.claim(manual_id=manual.pk, actor=operator("olga"), reason="Mine.")
    return subject, {}


def _answered() -> Scene:
    order = manual_work.asked()
    manual = manual_work.decide(order, "asked", question="Which colour?")
    return f"manual:{manual.pk}", {"answer": {"colour": "red"}}


def _held() -> Scene:
    _stuck()
    operations.place_hold(scope=HoldScope.CUSTOMER, name="C-1", reason="Unpaid.", actor=by("ann"))
    return f"hold:{Hold.objects.get().pk}", {}


def _paused() -> Scene:
    _stuck()
    operations.pause_target(target="alpha", reason="Maintenance.", actor=by("ann"))
    return "target:alpha", {}


def _of_alpha(**parameters: Any) -> Scene:
    _stuck()
    return "target:alpha", parameters


def _room() -> Scene:
    Resource.objects.create(name="depot", kept_by="PLAN")
    return "resource:depot", {"capacity": 5}


def _locked() -> Scene:
    test_resource_locks.a_shop(of_plan=(test_resource_locks.CUSTOMER,))
    desk.systems.sends["bill"] = [desk.rejected()]
    test_resource_locks.changing()
    desk.finish()
    return "lock:customer:C-1", {}


def _unmatched() -> tuple[Order, InboundEvent]:
    order = test_repair_event.waiting_order()
    test_repair_event.reported("wrong-key")
    return order, InboundEvent.objects.get()


def _matched() -> Scene:
    order, event = _unmatched()
    return f"event:{event.pk}", {"task": f"{order.reference}/one@1"}


def _replayed() -> Scene:
    """Its key is known by now."""
    _, event = _unmatched()
    key = Command.objects.get(action="one").idempotency_key
    InboundEvent.objects.update(idempotency_key=key)
    return f"event:{event.pk}", {}


def _set_aside() -> Scene:
    _, event = _unmatched()
    return f"event:{event.pk}", {}


def _brought_back() -> Scene:
    subject, _ = _set_aside()
    asked = by_hand.request(Action.EVENT_DISMISS, subject)
    operations.perform(actor=operator("dora"), request=asked)
    return subject, {}


def _incident(**parameters: Any) -> Scene:
    _stuck(3)
    operations.group_cases()
    return f"incident:{Incident.objects.get().pk}", parameters


def _rule() -> Scene:
    return "routing:refusals", {"reason_code": "refused", "owner_queue": "supply"}


def _job() -> BulkJob:
    _stuck(3)
    tasks = Task.objects.filter(state="FAILED_FINAL").order_by("pk")
    drafted = bulk.draft(
        actor=engine("ann"),
        action=Action.TASK_RETRY,
        selection=bulk.Selection(of="task", names=[str(one.pk) for one in tasks], filter={}),
        reason="They have mended it.",
    )
    bulk.work()
    drafted.refresh_from_db()
    return drafted


def _started() -> Scene:
    job = _job()
    return f"bulk:{job.pk}", {"selection": job.digest}


def _controlled() -> Scene:
    return f"bulk:{_job().pk}", {"what": "cancel"}


def _access() -> Scene:
    return f"user:{people.operator('mallory')}", {"permit": ["case.close"]}


SCENES: Mapping[Action, Callable[[], Scene]] = {
    Action.TASK_RETRY: lambda: _task("ship@1"),
    Action.TASK_SKIP: lambda: _task("ship@1"),
    Action.TASK_WAIVE: lambda: _task("ship@1"),
    Action.TASK_CORRECT: lambda: _task("ship@1", patch={"street": "Ring"}),
    Action.TASK_REFERENCE: _referenced,
    Action.TASK_RECONCILE: _reconciled,
    Action.PLAN_REGENERATE: _order,
    Action.PLAN_COMPENSATE: lambda: _task("reserve@1"),
    Action.PLAN_TERMINATE: _order,
    Action.ORDER_FORCE_COMPLETE: _order,
    Action.ORDER_CANCEL: _order,
    Action.ORDER_CHANGE: _changed,
    Action.MANUAL_CLAIM: _manual,
    Action.MANUAL_RELEASE: _given_back,
    Action.MANUAL_REASSIGN: lambda: _manual(queue="others"),
    Action.MANUAL_RESUME: _answered,
    Action.MANUAL_DECIDE: lambda: _manual(outcome="approved"),
    Action.CASE_ASSIGN: _case,
    Action.CASE_ESCALATE: _case,
    Action.CASE_AWAIT_CUSTOMER: _case,
    Action.CASE_CLOSE: _case,
    Action.INCIDENT_ASSIGN: _incident,
    Action.INCIDENT_RELEASE: _incident,
    Action.INCIDENT_CLOSE: lambda: _incident(cause="The mapping was missing."),
    Action.ROUTING_EDIT: _rule,
    Action.HOLD_PLACE: _of_alpha,
    Action.HOLD_RELEASE: _held,
    Action.TARGET_PAUSE: _of_alpha,
    Action.TARGET_RESUME: _paused,
    Action.RESOURCE_EDIT: _room,
    Action.LOCK_BREAK: _locked,
    Action.EVENT_MATCH: _matched,
    Action.EVENT_REPLAY: _replayed,
    Action.EVENT_DISMISS: _set_aside,
    Action.EVENT_RESTORE: _brought_back,
    Action.SIGNAL_SEND: lambda: _order(name="paid"),
    Action.BULK_START: _started,
    Action.BULK_CONTROL: _controlled,
    Action.GRANT_EDIT: _access,
}
