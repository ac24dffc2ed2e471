"""A process that does one part of the desk's work and may be told to die in the middle of it.

python -m tests.crash.desk_worker submit | work [TARGET …] | report JSON | publish | deliver | mail
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import django

django.setup()

from adapters.contract import Outcome, OutcomeKind  # noqa: E402
from adapters.strict_json import dumps  # noqa: E402
from fulfillment.engine import callbacks, deliveries, outbox, scanning, sending, sweeping  # noqa: E402
from fulfillment.models import TargetSystem  # noqa: E402
from oms import mailing  # noqa: E402
from oms.api.requests import OrdersIn  # noqa: E402
from oms.demo import samples  # noqa: E402
from oms.intake import feasibility  # noqa: E402
from oms.intake.replay import submit_once  # noqa: E402
from oms.intake.submission import Submitted  # noqa: E402
from oms.models import ApiClient, Order  # noqa: E402
from oms.states import ORDER_TERMINAL  # noqa: E402
from tests import desk  # noqa: E402


def submit() -> None:
    """The seven samples in one request, under one key."""
    body = {"orders": samples.batch(count=7, run="crash")}
    client, _ = ApiClient.objects.get_or_create(name="a-client")

    def respond(results: Sequence[Submitted]) -> tuple[int, dict[str, Any]]:
        return 201, {"references": [result.reference for result in results]}

    submit_once(
        client=client,
        requests=[order.request() for order in OrdersIn.model_validate(body).orders],
        idempotency_key="once",
        body=dumps(body),
        respond=respond,
    )


def work(*targets: str) -> None:
    """One look at everything that can go on now; only at these target systems, if named."""
    feasibility.assess()
    sweeping.sweep()
    scanning.scan()
    for target in targets or TargetSystem.objects.values_list("pk", flat=True):
        sending.drain(target=target)


def report(document: str) -> None:
    """One report of a target system."""
    given = json.loads(document)
    receipt = callbacks.receive(
        report=callbacks.Report(
            source=given["source"],
            event_id=given["event_id"],
            idempotency_key=given["idempotency_key"],
            outcome=Outcome(kind=OutcomeKind.SUCCEEDED, outputs=given["outputs"]),
            body=given,
        )
    )
    sys.stdout.write(f"{receipt.disposition} {receipt.duplicate}")


def unfinished() -> int:
    return Order.objects.exclude(state__in=sorted(ORDER_TERMINAL)).count()


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    desk.advance(float(os.environ["DESK_CLOCK_SECONDS"]))
    {
        "submit": submit,
        "work": work,
        "report": report,
        "publish": outbox.publish_events,
        "deliver": deliveries.deliver,
        "mail": mailing.send_due,
    }[verb](*arguments)
