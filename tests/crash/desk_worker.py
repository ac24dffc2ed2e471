"""A process that does one part of the desk's work and may be told to die in the middle of it.

python -m tests.crash.desk_worker submit [SAMPLE …] | work [TARGET …] | live CLOCK | hear
                                | migrate WORKFLOW … | cancel ORDER … | report JSON | rest
                                | publish | deliver | mail | bulk
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
from pathlib import Path
from typing import Any, NoReturn

import django

django.setup()

from django.db import connection  # noqa: E402

from adapters.contract import Outcome, OutcomeKind, Reply  # noqa: E402
from adapters.strict_json import dumps  # noqa: E402
from fulfillment import operations  # noqa: E402
from fulfillment.engine.dispatch import callbacks, replies, sending, sweeping  # noqa: E402
from fulfillment.engine.outbound import deliveries, outbox  # noqa: E402
from fulfillment.engine.plans import rest, scanning, signals  # noqa: E402
from fulfillment.engine.store import failpoints  # noqa: E402
from fulfillment.models import ManualTask, TargetSystem, Task  # noqa: E402
from fulfillment.operations import bulk  # noqa: E402
from oms import mailing  # noqa: E402
from oms.api.requests import OrdersIn  # noqa: E402
from oms.changes import cancelling  # noqa: E402
from oms.demo import samples  # noqa: E402
from oms.intake import feasibility  # noqa: E402
from oms.intake.replay import submit_once  # noqa: E402
from oms.intake.submission import Submitted  # noqa: E402
from oms.models import ApiClient, Order  # noqa: E402
from oms.states import ORDER_TERMINAL  # noqa: E402
from tests import desk  # noqa: E402
from tests.desk import by  # noqa: E402


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
    rest.look()
    scanning.scan()
    for target in targets or TargetSystem.objects.values_list("pk", flat=True):
        sending.drain(target=target)


def live(clock: str) -> None:
    """The life of the shop from here to its end: whenever nothing moves, time passes.

    `clock` is the file that says how many seconds it is ahead, for whoever comes next.
    """
    idle, before = 0, None
    while unfinished() and idle < _MOST_IDLE:
        _moment()
        now = progress()
        idle = idle + 1 if now == before else 0
        if idle:
            seconds = _until_something_is_due()
            Path(clock).write_text(str(float(Path(clock).read_text()) + seconds))
            desk.advance(seconds)
        before = now


_MOST_IDLE = 60
"""Moments in a row in which nothing changes; what is done in real time takes fewer."""
_PROGRESS = """
SELECT (SELECT sum(audit_sequence) FROM fulfillment_fulfillment),
       (SELECT count(*) + count(finished_at) FROM fulfillment_attempt),
       (SELECT count(*) + count(*) FILTER (WHERE applied) FROM fulfillment_signal)
"""
_NEXT = """
SELECT extract(epoch FROM min(due) - fulfillment_now())::float8 FROM (
    SELECT not_before AS due FROM fulfillment_task
    WHERE state IN ('READY', 'ACCEPTED', 'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN')
    UNION ALL SELECT lease_expires_at FROM fulfillment_attempt WHERE finished_at IS NULL
    UNION ALL SELECT rest_due_at FROM fulfillment_plan WHERE state IN ('RUNNING', 'BLOCKED')
) v WHERE due > fulfillment_now()
"""


def progress() -> Any:
    """Something else whenever anything has changed."""
    with connection.cursor() as raw:
        raw.execute(_PROGRESS)
        return raw.fetchone()


def _until_something_is_due() -> float:
    with connection.cursor() as raw:
        raw.execute(_NEXT)
        (seconds,) = raw.fetchone()
    return max(1.0, (seconds or 0.0) + 0.01)


def _moment() -> None:
    """People decide and report, then everything goes on that can."""
    for manual in ManualTask.objects.filter(state="OPEN").order_by("pk"):
        operations.decide(
            manual_id=manual.pk,
            outcome=min(manual.outcomes, key=_preferred),
            values={name: "as agreed" for name, s in manual.fields.items() if not s["optional"]},
            actor=by("ann"),
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
    outbox.publish_events()
    if Task.objects.filter(target_id=BY_MESSAGE, state="ACCEPTED").exists():
        hear()


BY_MESSAGE = "fieldwork"
"""The target system that is reached by messages."""


def hear() -> None:
    """One reply of it, if there is one."""
    source, stop = replies._sources()[BY_MESSAGE], threading.Event()
    patience = threading.Timer(2, stop.set)
    patience.daemon = True
    patience.start()

    def record(reply: Reply) -> None:
        replies.record(reply, target=BY_MESSAGE, stop=stop)
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


_REFUSALS = frozenset(
    {"rejected", "denied", "fraud", "refused", "objection", "unsolved", "stop", "leave_it"}
)


def migrate(*names: str) -> None:
    """Everybody on the way moves to the newest version of these workflows."""
    for name in names:
        for migration in operations.migrate_orders(
            workflow=name, version=None, orders=None, reason="a test", actor=by("ann")
        ):
            sys.stdout.write(f"{migration.order_reference} {migration.verdict}\n")


def cancel(*references: str) -> None:
    """Whoever asks again has the request of the first time."""
    for order in Order.objects.filter(reference__in=references).order_by("pk"):
        made = cancelling.cancel(order=order, requested_by="ann", reason="not wanted any more")
        sys.stdout.write(f"{order.reference} {made.request.state} {made.is_new}\n")


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
    "hear": hear,
    "migrate": migrate,
    "cancel": cancel,
    "rest": rest.look,
    "report": report,
    "publish": outbox.publish_events,
    "deliver": deliveries.deliver,
    "mail": mailing.send_due,
    "bulk": bulk.work,
}


def serve() -> None:
    """Jobs come in as {"arguments", "variables", "stdout", "stderr"}; the code with which each
    ended goes out."""
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
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            file = os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, descriptor)
        os.environ.update(job["variables"])
        failpoints._armed = failpoints._from_environment()
        main(*job["arguments"])
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(verb: str, *arguments: str) -> None:
    desk.advance(float(os.environ["DESK_CLOCK_SECONDS"]))
    _VERBS[verb](*arguments)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main(*sys.argv[1:])
