"""The Celery application."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_init

from oms.garbage import collect_rarely

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")

app = Celery("oms")
# The current app is a thread's own; every other thread falls back to the default one.
app.set_default()
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["fulfillment", "oms"])


@worker_init.connect
def begin(**_: Any) -> None:
    """In a worker, before its first task."""
    collect_rarely()
