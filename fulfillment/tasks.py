"""Celery entry points. Each is a thin edge: the engine does the work, the message is a hint.

Messages carry keyword arguments only and tolerate unknown ones, so that old messages survive a
deployment.
"""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import task_prerun, worker_shutting_down

from fulfillment import operations, stuck
from fulfillment.audit import sealing
from fulfillment.engine.dispatch import sending, sweeping
from fulfillment.engine.outbound import deliveries, outbox
from fulfillment.engine.plans import circles, rest, scanning, signals
from fulfillment.engine.store.database import pin_plans, replace_if_broken
from fulfillment.engine.timing import durations, jeopardy
from fulfillment.operations import bulk


@task_prerun.connect
def plan_by_index(**_: Any) -> None:
    """Workers and beat's jobs run the same few statements again and again, beside any crowd."""
    replace_if_broken()
    pin_plans()


@worker_shutting_down.connect
def stop_claiming(**_: Any) -> None:
    """A drain would otherwise go on for as long as there is work, and delay the shutdown."""
    sending.stop()
    deliveries.stop()


@shared_task(name="fulfillment.tasks.run_commands")
def run_commands(*, target: str, **_: Any) -> int:
    """Work off what is claimable for one target system."""
    return sending.drain(target=target)


@shared_task(name="fulfillment.tasks.scan_runnable")
def scan_runnable(**_: Any) -> int:
    """Release what was held for a time, select where that is due, hint at what may be claimed."""
    operations.release_ended_holds()
    signals.apply_new()
    return scanning.scan()


@shared_task(name="fulfillment.tasks.sweep_leases")
def sweep_leases(**_: Any) -> int:
    """Turn lost leases and overdue reports into unknown outcomes."""
    return sweeping.sweep()


@shared_task(name="fulfillment.tasks.detect_stuck_orders")
def detect_stuck_orders(**_: Any) -> int:
    """Flag plans that can't move, or have not moved for too long."""
    return stuck.detect_stuck()


@shared_task(name="fulfillment.tasks.break_circles")
def break_circles(*, all_of_them: bool = False, **_: Any) -> int:
    """End one wait of every circle of orders that wait for each other."""
    return circles.break_circles(lately=None if all_of_them else circles.LATELY)


@shared_task(name="fulfillment.tasks.look_for_jeopardy")
def look_for_jeopardy(**_: Any) -> int:
    """Tell of plans that will be done later than was promised."""
    return jeopardy.look()


@shared_task(name="fulfillment.tasks.measure_durations")
def measure_durations(**_: Any) -> int:
    """Learn how long tasks take from those that have ended lately."""
    return durations.measure()


@shared_task(name="fulfillment.tasks.look_after_approvals")
def look_after_approvals(**_: Any) -> int:
    """End approvals that nobody has given in time, or that are about what has changed since."""
    return operations.look_after_approvals()


@shared_task(name="fulfillment.tasks.undo_at_rest")
def undo_at_rest(**_: Any) -> int:
    """Give up, or change, the plans of which nothing is under way any more."""
    return rest.look()


@shared_task(name="fulfillment.tasks.group_cases")
def group_cases(**_: Any) -> int:
    """Bring cases that have one cause together, and close incidents that have none left."""
    return operations.group_cases()


@shared_task(name="fulfillment.tasks.escalate_cases")
def escalate_cases(**_: Any) -> int:
    """Let others know of cases whose time is over."""
    return operations.escalate_due()


@shared_task(name="fulfillment.tasks.publish_events")
def publish_events(**_: Any) -> int:
    """Relay the outbox, and deliver what is due to subscribers."""
    published = outbox.publish_events()
    deliveries.deliver()
    return published


@shared_task(name="fulfillment.tasks.run_bulk_jobs")
def run_bulk_jobs(**_: Any) -> int:
    """Go on with bulk jobs: dry runs, rows whose turn it is, what came of those that are done."""
    return bulk.work()


@shared_task(name="fulfillment.tasks.seal_audit")
def seal_audit(**_: Any) -> int:
    """Seal what has come to the audit trails; the number of the newest seal, 0: nothing new."""
    seal = sealing.seal_new()
    return seal.number if seal is not None else 0
