"""A small order desk for tests: targets that are scripted functions, a workflow, orders.

Everything else is real: the rows, the unit of work, the claim, the settlement. `drain()` works
off what is claimable in this process; nothing needs a broker.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.registry import register_adapter
from fulfillment.authority.actors import Actor, engine
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.engine.dispatch import claiming, sending, sweeping
from fulfillment.engine.dispatch.claiming import Claim
from fulfillment.engine.plans import scanning, settlement
from fulfillment.engine.store import targets
from fulfillment.engine.store.database import pin_plans
from fulfillment.engine.tasks.outcomes import Result
from fulfillment.models import Plan, TargetSystem, Task
from fulfillment.publishing import publish
from oms.intake import workflows
from oms.intake.requests import ItemRequest, OrderRequest
from oms.intake.submission import Submitted, submit
from oms.models import ApiClient, Order

_numbers = itertools.count(1)


class ScriptedSystems:
    """What the target systems of a test answer, and what they were asked.

    `answers[task or action]` is a list of outcomes, used up in order; then, and without a list,
    every send succeeds. An entry may be a function of the command, to look around or to raise.
    With `in_process` off they are called by the drain's threads, as what is far away is.
    """

    def __init__(self) -> None:
        self.sends: dict[str, list[Any]] = defaultdict(list)
        self.queries: dict[str, list[Any]] = defaultdict(list)
        self.sent: list[Command] = []
        self.queried: list[Command] = []
        self.in_process = True
        self._lock = threading.Lock()

    def answer(self, script: dict[str, list[Any]], log: list[Command], command: Command) -> Outcome:
        with self._lock:
            log.append(command)
            scripted = script[command.action].pop(0) if script[command.action] else succeeded()
        return scripted(command) if callable(scripted) else scripted

    def actions(self) -> list[str]:
        """Actions in the order in which they were sent."""
        return [command.action for command in self.sent]


systems = ScriptedSystems()


class _ScriptedAdapter:
    @property
    def in_process(self) -> bool:
        return systems.in_process

    def send(self, *, command: Command) -> Outcome:
        return systems.answer(systems.sends, systems.sent, command)

    def query(self, *, command: Command) -> Outcome:
        return systems.answer(systems.queries, systems.queried, command)


def _scripted(
    *, target: str, settings: Mapping[str, Any], capabilities: Capabilities
) -> _ScriptedAdapter:
    return _ScriptedAdapter()


register_adapter(kind="scripted", factory=_scripted)


def fresh_systems() -> ScriptedSystems:
    """Forget every script; to be called at the start of a test (fixture `systems`)."""
    global systems
    systems = ScriptedSystems()
    return systems


def succeeded(**outputs: Any) -> Outcome:
    return Outcome(kind=OutcomeKind.SUCCEEDED, outputs=outputs)


def accepted() -> Outcome:
    return Outcome(kind=OutcomeKind.ACCEPTED)


def rejected(code: str = "refused") -> Outcome:
    return Outcome(kind=OutcomeKind.REJECTED, code=code, message="The target says no.")


A_MOMENT = timedelta(seconds=1)


def failed(
    code: str = "busy", *, retryable: bool = True, retry_after: timedelta | None = A_MOMENT
) -> Outcome:
    """A try that had no effect; the target asks for a moment before the next.

    Of the moment the pause never falls short, wherever the jitter falls: a test that looks at a
    task that waits would else now and then find it sent again.
    """
    return Outcome(
        kind=OutcomeKind.FAILED,
        code=code,
        message="Nothing happened.",
        retryable=retryable,
        retry_after=retry_after,
    )


def unknown(code: str = "timeout") -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, message="It may have happened.")


def not_found() -> Outcome:
    return Outcome(kind=OutcomeKind.NOT_FOUND)


def target(name: str, **row: Any) -> TargetSystem:
    """A scripted target system; idempotent and queryable unless said otherwise."""
    values: dict[str, Any] = {
        "queue": "crm",
        "adapter": "scripted",
        "idempotent": True,
        "status_query": True,
        "reconcile_after": timedelta(0),
        **row,
    }
    made, _ = TargetSystem.objects.update_or_create(name=name, defaults=values)
    targets.forget()
    return made


def task(target: str = "alpha", *, after: Sequence[str] = (), **spec: Any) -> dict[str, Any]:
    """A task for `workflow`; `after` are success dependencies, `depends_on` adds others."""
    depends_on = [{"success": name} for name in after] + list(spec.pop("depends_on", []))
    return {
        "title": "A task",
        "target": target,
        "depends_on": depends_on,
        "compensation": {"none": "Nothing to undo in a test."},
        **spec,
    }


def step(*, after: Sequence[str] = (), **spec: Any) -> dict[str, Any]:
    """The same for what no target system does: `decide=…`, `wait=…`, `manual=…` or `use=…`."""
    depends_on = [{"success": name} for name in after] + list(spec.pop("depends_on", []))
    return {"title": "A step", "depends_on": depends_on, **spec}


SILENT = {
    name: {"message": "x", "channels": []}
    for name in ("accepted", "completed", "cancelled", "delayed")
}
"""`messages` of a workflow whose customers are told nothing."""


def workflow(
    tasks: Mapping[str, Mapping[str, Any]], *, offering: str = "thing", **more: Any
) -> WorkflowDefinition:
    """A published workflow that fulfils `offering`; a task's action defaults to its name."""
    definition = WorkflowDefinition.model_validate(
        {
            "workflow": offering,
            "version": 1,
            "title": "A workflow",
            "fulfils": [{"offering": offering, "actions": ["add"]}],
            "billing_trigger": "service_activation",
            "tasks": {
                name: {"action": name, **spec} if "target" in spec else spec
                for name, spec in tasks.items()
            },
            **more,
        }
    )
    publish(definition=definition, published_by="a test")
    workflows.forget()
    return definition


def item(offering: str = "thing", **fields: Any) -> ItemRequest:
    return ItemRequest(
        item_id=fields.pop("item_id", "1"), action="add", offering=offering, **fields
    )


def request(*items: ItemRequest, **fields: Any) -> OrderRequest:
    return OrderRequest(
        external_id=fields.pop("external_id", f"X-{next(_numbers)}"),
        customer_id=fields.pop("customer_id", "C-1"),
        items=items or (item(),),
        **fields,
    )


def by(name: str) -> Actor:
    """Somebody who may do everyday things, and whom the logs know by this name."""
    return engine(name)


def client(name: str = "a-client") -> ApiClient:
    return ApiClient.objects.get_or_create(name=name)[0]


def submit_all(*requests: OrderRequest) -> list[Submitted]:
    return submit(client=client(), requests=requests or [request()], actor="a test")


def order(*items: ItemRequest, **fields: Any) -> Order:
    """One order, submitted."""
    (answer,) = submit_all(request(*items, **fields))
    return Order.objects.get(reference=answer.reference)


def drain(names: Iterable[str] = (), *, rounds: int = 100) -> int:
    """Work off everything that is claimable now for these targets (all, unless named)."""
    pin_plans()  # As workers do before anything else.
    settled = 0
    for _ in range(rounds):
        done = sum(
            sending.drain(target=name)
            for name in names or TargetSystem.objects.values_list("pk", flat=True)
        )
        settled += done
        if not done:
            break
    return settled


def finish(*, rounds: int = 50) -> None:
    """Work off everything that can go on without a person and without time passing."""
    for _ in range(rounds):
        selected = scanning.scan()
        if not drain() and not selected:
            return
    raise AssertionError("something moves for ever")


def claim(
    target: str = "alpha", *, limit: int = 1, worker: str = "a test", alone: bool = True
) -> list[Claim]:
    """Take commands as a worker does, and leave it at that: nothing is sent."""
    row = TargetSystem.objects.get(pk=target)
    room = claiming.Room(calls=limit)
    return claiming.claim(target=row, room=room, worker=worker, alone=alone)


def result(claim: Claim, outcome: Outcome, **changes: Any) -> Result:
    """What a worker hands to the settlement after its call."""
    return Result(
        **{
            "task_id": claim.task_id,
            "plan_id": claim.plan_id,
            "fulfillment_id": claim.fulfillment_id,
            "node": claim.node,
            "element": claim.element,
            "command_id": claim.command.command_id,
            "attempt_id": claim.attempt_id,
            "attempt_number": claim.command.attempt,
            "purpose": claim.purpose,
            "outcome": outcome,
            **changes,
        }
    )


def settle(*results: Result) -> None:
    settlement.settle(results=results, actor="a test")


def settle_call(claim: Claim, outcome: Outcome) -> None:
    """The same as the worker does that made the call: its target's breaker sees the answer."""
    settlement.settle(results=[result(claim, outcome)], actor="a test", called=claim.command.target)


def messy_run(*, orders: int = 6, seed: int = 1) -> list[Order]:
    """Orders whose targets fail, lose answers and stay silent; hours later, wherever they got.

    On the database's clock: for tests that are rolled back.
    """
    target("alpha", maximum_queries=2)
    target("beta", status_query=False)
    target("gamma", idempotent=False, status_query=False)
    workflow(
        {
            "one": task("alpha"),
            "two": task("beta", after=["one"]),
            "three": task("gamma", after=["one"]),
            "four": task("alpha", after=["two", "three"]),
            "extra": task("beta", after=["one"], required=False),
            "after_extra": task("alpha", after=["extra"], required=False),
        }
    )
    dice = random.Random(seed)
    good, bad = [succeeded()] * 12, [rejected(), failed(retryable=False)]
    doubtful = [unknown(), failed(), failed(), accepted(), unknown()]
    for action in ("one", "two", "three", "four", "extra", "after_extra"):
        systems.sends[action] = [dice.choice(good + bad + doubtful) for _ in range(40)]
        systems.queries[action] = [dice.choice([*good, *doubtful, not_found()]) for _ in range(40)]
    made = [order(item(), item(item_id="2")) for _ in range(orders)]
    for _ in range(15):
        drain()
        advance(600)
        sweeping.sweep()
        scanning.scan()
    return made


def advance(seconds: float) -> None:
    """Move the database's clock on this connection; the end of the transaction puts it back."""
    with connection.cursor() as raw:
        raw.execute("SELECT current_setting('fulfillment.clock_offset', true)")
        offset = float(raw.fetchone()[0] or 0)
        raw.execute(
            "SELECT set_config('fulfillment.clock_offset', %s, false)", [str(offset + seconds)]
        )


def now() -> datetime:
    """What the database's clock says."""
    with connection.cursor() as raw:
        raw.execute("SELECT fulfillment_now()")
        moment: datetime = raw.fetchone()[0]
        return moment


def tasks_of(order: Order) -> dict[str, Task]:
    """The order's tasks by key."""
    return {t.key: t for t in Task.objects.filter(fulfillment_id=order.fulfillment_id, round=0)}


def states_of(order: Order) -> dict[str, str]:
    return {key: str(t.state) for key, t in tasks_of(order).items()}


def plan_of(order: Order) -> Plan:
    return Plan.objects.get(fulfillment_id=order.fulfillment_id)


def newest_plan_of(order: Order) -> Plan:
    """The plan that the order goes by, where one has taken the place of another."""
    return Plan.objects.filter(fulfillment_id=order.fulfillment_id).latest("version")


Scripted = Outcome | Callable[[Command], Outcome]


def a_claimed_task() -> Claim:
    """One order of two tasks, the first of them claimed; it has to return a number."""
    target("alpha")
    workflow(
        {
            "one": task(outputs={"number": "string"}),
            "two": task(after=["one"]),
        }
    )
    order()
    (claimed,) = claim()
    return claimed
