"""The engine's own Celery application with the no-op handlers registered."""

from __future__ import annotations

import tests.load.handlers  # noqa: F401
from oms.celery import app

__all__ = ["app"]
