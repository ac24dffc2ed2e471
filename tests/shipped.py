"""The shipped workflows on the desk of tests.desk: its target systems answer as the sandbox does.

`systems.sends[action]` goes before that, so a test scripts only what goes wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from django.core.management import call_command

from adapters.contract import Capabilities, Command, Outcome
from adapters.registry import register_adapter
from adapters.sandbox.results import outputs_of
from fulfillment import operations
from fulfillment.definitions.loading import load_workflow
from fulfillment.engine.dispatch import sweeping
from fulfillment.engine.plans import scanning, signals
from fulfillment.models import Fulfillment, ManualTask
from fulfillment.publishing import publish
from oms.api.requests import OrdersIn
from oms.environment import CHECKOUT
from oms.intake import feasibility, workflows
from oms.intake.submission import submit
from oms.models import Order
from tests import desk
from tests.desk import by

TEMPLATES = CHECKOUT / "templates" / "workflows"
SAMPLES = CHECKOUT / "examples" / "orders"


class _Played:
    in_process = True

    def __init__(self, target: str) -> None:
        self._target = target

    def send(self, *, command: Command) -> Outcome:
        systems = desk.systems
        if systems.sends[command.action]:
            return systems.answer(systems.sends, systems.sent, command)
        systems.sent.append(command)
        return desk.succeeded(
            **outputs_of(
                target=self._target,
                action=command.action,
                key=command.idempotency_key,
                number=1,
                at=desk.now(),
                payload=command.payload,
            )
        )

    def query(self, *, command: Command) -> Outcome:
        return desk.systems.answer(desk.systems.queries, desk.systems.queried, command)


def _played(*, target: str, settings: Mapping[str, Any], capabilities: Capabilities) -> _Played:
    return _Played(target)


register_adapter(kind="played", factory=_played)


def open_shop(*names: str) -> None:
    """Publish these shipped workflows, and set up the sandbox's target systems."""
    rows = yaml.safe_load((CHECKOUT / "examples" / "targets" / "sandbox.yaml").read_text())
    for name, row in rows["targets"].items():
        desk.target(
            name,
            adapter="played",
            title=row["title"],
            idempotent=row["idempotent"],
            status_query=row["status_query"],
        )
    call_command("calendars", "load", str(CHECKOUT / "templates" / "calendars.yaml"), verbosity=0)
    for name in names:
        for path in sorted((TEMPLATES / name).glob("v*.yaml"), key=_version):
            publish(definition=load_workflow(path=path), published_by="a test")
    workflows.forget()


def _version(path: Path) -> int:
    return int(path.stem.removeprefix("v"))


def sample(name: str, **changes: Any) -> dict[str, Any]:
    """A sample order, such as "payment-pipeline/card"; `item` changes its first item."""
    body = json.loads((SAMPLES / f"{name}.json").read_text())
    body["items"][0].update(changes.pop("item", {}))
    return {**body, **changes}


def order(name: str, **changes: Any) -> Order:
    """Submit a sample order, and work off all that goes on by itself."""
    (body,) = OrdersIn.model_validate({"orders": [sample(name, **changes)]}).orders
    (answer,) = submit(client=desk.client(), requests=[body.request()], actor="a test")
    assert not answer.faults, answer.faults
    feasibility.assess()
    desk.finish()
    return Order.objects.get(reference=answer.reference)


def completed(order: Order) -> bool:
    """Whether it is, once all that can go on by itself has done so."""
    desk.finish()
    order.refresh_from_db()
    return order.state == "COMPLETED"


def later(seconds: float) -> None:
    """Time passes: what falls due is dealt with."""
    desk.advance(seconds)
    sweeping.sweep()
    scanning.scan()
    desk.finish()


def decide(order: Order, task: str, outcome: str, **values: Any) -> None:
    """What a person does in the admin or over the API."""
    manual = ManualTask.objects.get(task__key=task, fulfillment_id=order.fulfillment_id)
    operations.decide(
        manual_id=manual.pk, outcome=outcome, actor=by("ann"), reason="a test", values=values
    )
    desk.finish()


def asked(order: Order) -> dict[str, str]:
    """The open questions to people: task -> role."""
    return {
        manual.task.key: manual.role
        for manual in ManualTask.objects.filter(fulfillment_id=order.fulfillment_id, state="OPEN")
    }


def report(order: Order, name: str, *, event_id: str = "e-1", **payload: Any) -> None:
    """A milestone of the order, reported from outside."""
    key = Fulfillment.objects.get(pk=order.fulfillment_id).business_key
    signals.receive(
        source="a test",
        event_id=event_id,
        name=name,
        subject=signals.of_order(business_key=key),
        payload=payload,
    )
    desk.finish()


def sent(action: str) -> list[dict[str, Any]]:
    """The payloads of every command with this action, in the order in which they were sent."""
    return [dict(one.payload) for one in desk.systems.sent if one.action == action]


def actions() -> list[str]:
    return [one.action for one in desk.systems.sent]


Clock = Callable[[float], None]
