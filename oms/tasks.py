"""Celery entry points of the order desk."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from oms.intake import feasibility


@shared_task(name=feasibility.TASK)
def assess_feasibility(**_: Any) -> int:
    """Ask target systems about the orders that wait for their answer."""
    return feasibility.assess()
