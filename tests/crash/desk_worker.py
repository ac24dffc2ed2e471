"""A process that does one part of the desk's work and may be told to die in the middle of it.

python -m tests.crash.desk_worker submit [SAMPLE …] | work [TARGET …] | live | migrate WORKFLOW …
                                | report JSON | publish | deliver | mail
python -m tests.crash.desk_worker serve

With `serve` it performs one job after another, a JSON line each, in forks of itself: what a process
costs is to start, and hundreds of them shall die.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import django

django.setup()

from adapters.contract import Outcome, OutcomeKind, Reply, ReplySource  # noqa: E402
from adapters.strict_json import dumps  # noqa: E402
from fulfillment import operations  # noqa: E402
from fulfillment.engine import (  # noqa: E402
    callbacks,
    deliveries,
    failpoints,
    outbox,
    replies,
    scanning,
    sending,
    signals,
    sweeping,
)
from fulfillment.models import ManualTask, TargetSystem, Task  # noqa: E402
from oms import mailing  # noqa: E402
from oms.api.requests import OrdersIn  # noqa: E402
from oms.demo import samples  # noqa: E402
from oms.intake import feasibility  # noqa: E402
from oms.intake.replay import submit_once  # noqa: E402
from oms.intake.submission import Submitted  # noqa: E402
from oms.models import ApiClient, Order  # noqa: E402
from oms.states import ORDER_TERMINAL  # noqa: E402
from tests import desk  # noqa: E402


def submit(*names: str) -> None:
    """These samples, or the seven of the demo, in one request, under one key."""
    named = [json.loads((samples.FOLDER / f"{name}.json").read_text()) for name in names]
    body = {"orders": named or samples.batch(count=7, run="crash")}
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


def live() -> None:
    """A moment with people in it: they decide and report, then everything goes on that can."""
    for manual in ManualTask.objects.filter(state="OPEN").order_by("pk"):
        operations.decide(
            manual_id=manual.pk,
            outcome=min(manual.outcomes, key=_preferred),
            values={name: "as agreed" for name, s in manual.fields.items() if not s["optional"]},
            actor="ann",
            reason="It was looked at.",
        )
    for task in Task.objects.filter(state="ACCEPTED").exclude(awaits="").order_by("pk"):
        name, _, subject = task.awaits.partition(" ")
        if name in REPORTED:  # The others are reached by an order.
            signals.receive(
                source="people",
                event_id=str(task.pk),
                name=name,
                subject=subject,
                payload=REPORTED[name],
            )
    signals.apply_new()
    work()
    for name, source in replies._sources().items():
        if Task.objects.filter(target_id=name, state="ACCEPTED").exists():
            _hear(name, source)


def _hear(target: str, source: ReplySource) -> None:
    """One reply of a system that is reached by messages, if there is one."""
    stop = threading.Event()
    patience = threading.Timer(2, stop.set)
    patience.daemon = True
    patience.start()

    def record(reply: Reply) -> None:
        replies.record(reply, target=target, stop=stop)
        stop.set()

    source.receive_replies(record=record, stop=stop)


REPORTED: Mapping[str, dict[str, Any]] = {
    "goods_received": {"condition": "as_new"},
    "appointment_confirmed": {"slot": "2026-01-05T09:00:00Z"},
    "router_delivered": {},
}
"""The milestones that come from outside, and what they bring along."""


def _preferred(outcome: str) -> tuple[bool, bool, str]:
    """Whoever may ask somebody else does; nobody refuses anything."""
    return outcome != "escalated", outcome in _REFUSALS, outcome


_REFUSALS = frozenset({"rejected", "denied", "fraud", "refused", "objection", "unsolved", "stop"})


def migrate(*names: str) -> None:
    """Everybody on the way moves to the newest version of these workflows."""
    for name in names:
        for migration in operations.migrate_orders(
            workflow=name, version=None, orders=None, reason="a test", actor="ann"
        ):
            sys.stdout.write(f"{migration.order_reference} {migration.verdict}\n")


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


_VERBS: Mapping[str, Callable[..., Any]] = {
    "submit": submit,
    "work": work,
    "live": live,
    "migrate": migrate,
    "report": report,
    "publish": outbox.publish_events,
    "deliver": deliveries.deliver,
    "mail": mailing.send_due,
}


def serve() -> None:
    """Jobs come in as {"verb", "arguments", "failpoint", "clock_seconds"}; the code with which
    each ended goes out."""
    for line in sys.stdin:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _perform(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _perform(job: Mapping[str, Any]) -> NoReturn:
    code = 1
    try:
        os.dup2(2, 1)
        failpoints._armed = failpoints.parse(job["failpoint"], run="")
        desk.advance(job["clock_seconds"])
        _VERBS[job["verb"]](*job["arguments"])
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    if verb == "serve":
        serve()
    else:
        desk.advance(float(os.environ["DESK_CLOCK_SECONDS"]))
        _VERBS[verb](*arguments)
