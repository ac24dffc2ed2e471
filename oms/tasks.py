"""Celery entry points of the order desk."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from oms import delays, leakage, mailing, schedules
from oms.changes import requesting, settling
from oms.figures import keeping
from oms.intake import feasibility


@shared_task(name=feasibility.TASK)
def assess_feasibility(**_: Any) -> int:
    """Ask target systems about the orders that wait for their answer."""
    return feasibility.assess()


@shared_task(name="oms.tasks.send_mail")
def send_mail(**_: Any) -> int:
    """Send the e-mail to customers that is due."""
    return mailing.send_due()


@shared_task(name="oms.tasks.tell_delays")
def tell_delays(**_: Any) -> int:
    """Tell the customers of late orders, once."""
    return delays.tell_delays()


@shared_task(name="oms.tasks.submit_scheduled")
def submit_scheduled(**_: Any) -> int:
    """Submit the orders of schedules that are due."""
    return len(schedules.submit_due())


@shared_task(name="oms.tasks.find_leaks")
def find_leaks(**_: Any) -> int:
    """Open cases for what is active and not billed, or billed and not active."""
    return leakage.find_leaks()


@shared_task(name=requesting.TASK)
def settle_amendments(**_: Any) -> int:
    """Go on with amendments whose order has ended, or of which nothing is awaited any more."""
    return settling.settle_due()


@shared_task(name="oms.tasks.count_figures")
def count_figures(**_: Any) -> int:
    """Count for reports what has happened since the last time."""
    return keeping.keep_up()
