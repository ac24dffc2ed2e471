"""This engine with everything on, as one side of the comparison.

Every target has a limit on its rate and on what is under way, and a breaker, none of which binds;
each order locks its customer; a thousand holds stand on other orders and customers; every target
queue has a worker process of its own, beat runs its jobs. Task events are Celery's (`-E`, on in
the shipped settings): they are what Flower and monitoring live on. The engine's own events of
tasks are written only while a subscriber wants them, and then his receiver would be measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import yaml

from oms.environment import CHECKOUT
from tests.load import handlers, verification
from tests.load.parts import BenchFailed, Tell
from tests.load.sides import TASKS_PER_ORDER, wait_until_none
from tests.load.stacks import BenchStack, workers_of

if TYPE_CHECKING:
    from oms.intake.requests import OrderRequest

OFFERING = "bench-contact-center"
_SHIPPED = CHECKOUT / "templates/workflows/cloud-contact-center/v1.yaml"
LIMITS: Mapping[str, Any] = {
    "sender_slots": 128,
    "concurrency_limit": 512,
    "rate_per_second": 1_000_000.0,
    "rate_burst": 1_000_000,
    "breaker_failures": 10,
}
_LEFT = """
SELECT count(*) FROM oms_order WHERE id BETWEEN %s AND %s AND finished_at IS NULL
"""


class Engine:
    """Durable, audited, idempotent."""

    name = "engine"

    def __init__(self, stack: BenchStack, *, batch: int, holds: int) -> None:
        self.settings = {
            "processes": f"{len(stack.environment.target_queues)} target workers, orchestration, "
            "beat",
            "orders_per_submission": batch,
            "holds_elsewhere": holds,
            "locks": "its customer, per order",
            "limits": dict(LIMITS),
            "task_events": "Celery's",
        }
        self._stack = stack
        self._batch = batch
        self._number = 0
        self._orders: list[int] = []
        publish_workload()
        _hold(holds)

    @contextmanager
    def workers(self) -> Iterator[None]:
        from fulfillment.engine.store.database import pin_plans
        from oms.garbage import collect_rarely

        pin_plans()
        collect_rarely()  # As a web process does, whose operation submits here.
        self._orders.clear()
        with workers_of(self._stack):
            yield

    def run(self, count: int, /, *, tell: Tell) -> float:
        self._number += 1
        requests = requests_of(count, run=f"W-{self._number}")
        began = time.perf_counter()
        ids = submitted(requests, batch=self._batch)
        wait_until_none(lambda: left(ids), count=count, tell=tell)
        took = time.perf_counter() - began
        self._orders += ids
        return took

    def verify(self) -> Mapping[str, int]:
        """Every order by itself, its audit chain included, and every effect by its key."""
        found = look_at(self._orders, effects=handlers.effects(self._stack.effects))
        refuse_faults(found, orders=len(self._orders))
        return {
            "orders": len(self._orders),
            "commands": len(found.keys),
            "effects": sum(found.effects[key] for key in found.keys),
            "audit_rows": sum(found.audit.values()),
            "audit_chains": len(self._orders),
        }


def look_at(orders: Sequence[int], *, effects: Mapping[str, int]) -> verification.Found:
    """What these orders (by id) have left behind."""
    from oms.models import Order

    rows = Order.objects.filter(pk__in=orders).values_list("fulfillment_id", flat=True)
    return verification.look(fulfillment_ids=list(rows), effects=effects)


def refuse_faults(found: verification.Found, *, orders: int) -> None:
    """Raises BenchFailed unless exactly that is there which so many orders have to leave."""
    if faults := verification.faults_of(found, orders=orders):
        raise BenchFailed("The engine has cut a corner:\n  " + "\n  ".join(faults))


def requests_of(count: int, *, run: str, offering: str = OFFERING) -> list[OrderRequest]:
    """Orders of one contact center each, every one of a customer of its own."""
    from oms.intake.requests import ItemRequest, OrderRequest

    return [
        OrderRequest(
            external_id=f"{run}-{number}",
            customer_id=f"C-{run}-{number}",
            billing_account="BA-1",
            region="EU",
            items=[
                ItemRequest(
                    item_id="1",
                    action="add",
                    offering=offering,
                    characteristics={
                        "agents": 200,
                        "phone_numbers": 50,
                        "recording_retention_years": 7,
                    },
                    place={"id": "SITE-1"},
                )
            ],
        )
        for number in range(count)
    ]


def submitted(requests: Sequence[OrderRequest], *, batch: int) -> list[int]:
    """Ids of the orders, which have come in through the operation of the bulk API."""
    from oms.intake.submission import submit
    from oms.models import ApiClient

    client, _ = ApiClient.objects.get_or_create(name="bench")
    ids: list[int] = []
    for first in range(0, len(requests), batch):
        answers = submit(client=client, requests=requests[first : first + batch], actor="bench")
        if refused := [answer for answer in answers if answer.state != "IN_PROGRESS"]:
            raise BenchFailed(f"An order was not started: {refused[0]}.")
        ids += [int(answer.reference.removeprefix("O-")) for answer in answers]
    return ids


def left(ids: Sequence[int]) -> int:
    """How many of these orders, the newest there are, have not ended yet."""
    from fulfillment.engine.store.database import cursor

    with cursor() as raw:
        raw.execute(_LEFT, [ids[0], ids[-1]], prepare=True)
        ((count,),) = raw.fetchall()
    return int(count)


def publish_workload(*, instead: Mapping[str, str] | None = None) -> None:
    """The shipped contact center with a lock per customer, and its targets in this process.

    Without its feasibility check: what is measured begins with the submission. `instead` names
    other targets for some of its own, of which nothing but a reference comes back.
    """
    from fulfillment.definitions.schema import WorkflowDefinition
    from fulfillment.models import TargetSystem
    from fulfillment.publishing import publish

    TargetSystem.objects.update(adapter="python", settings={}, **LIMITS)
    shipped = yaml.safe_load(_SHIPPED.read_text())
    del shipped["feasibility"]
    shipped = _moved(shipped, instead or {})
    changes = {
        "workflow": OFFERING,
        "title": "Workload W",
        "fulfils": [{"offering": OFFERING, "actions": ["add"]}],
        "locks": [{"resource": "customer", "key": "${order.customer.id}"}],
    }
    definition = WorkflowDefinition.model_validate({**shipped, **changes})
    if len(definition.tasks) != TASKS_PER_ORDER:
        raise BenchFailed(f"Workload W has {len(definition.tasks)} tasks now.")
    publish(definition=definition, published_by="bench")


def _moved(workflow: dict[str, Any], instead: Mapping[str, str]) -> dict[str, Any]:
    """The same with other targets, and with their `reference` wherever an output was used."""
    text = json.dumps(workflow)
    moved = {name for name, task in workflow["tasks"].items() if task["target"] in instead}
    for name in moved:
        for output in workflow["tasks"][name].get("outputs", ()):
            text = text.replace(f"{name}.{output}", f"{name}.reference")
    found: dict[str, Any] = json.loads(text)
    for name in moved:
        task = found["tasks"][name]
        task |= {"target": instead[task["target"]], "outputs": {"reference": "string"}}
    return found


def _hold(count: int) -> None:
    """Nine of ten on customers without orders, the others on orders that are there and wait."""
    from fulfillment import operations
    from fulfillment.authority.actors import engine
    from fulfillment.models import HoldScope
    from oms.models import Order

    reason: dict[str, Any] = {"reason": "Measured beside it.", "actor": engine("bench")}
    waiting = submitted(requests_of(count // 10, run="HELD"), batch=100) if count >= 10 else []
    for order in Order.objects.filter(pk__in=waiting):
        operations.place_hold(scope=HoldScope.ORDER, name=order.reference, **reason)
    for number in range(count - len(waiting)):
        operations.place_hold(scope=HoldScope.CUSTOMER, name=f"HELD-{number}", **reason)
