"""The stack's settings, and the benchmark's handlers imported by every worker."""

from __future__ import annotations

from oms import settings as shipped

globals().update({name: value for name, value in vars(shipped).items() if name.isupper()})
CELERY_IMPORTS = ("tests.load.handlers",)
