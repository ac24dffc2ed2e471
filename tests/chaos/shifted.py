"""Celery with a wrong clock: python -m tests.chaos.shifted SECONDS beat …

There is no library here that shifts a process's whole clock, so the one place is shifted from
which Celery's beat and its messages get the time.
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta


def main() -> None:
    shift = timedelta(seconds=float(sys.argv[1]))
    from celery import Celery

    true_now = Celery.now

    def now(app: Celery) -> datetime:
        shifted: datetime = true_now(app) + shift
        return shifted

    Celery.now = now
    from oms.celery import app

    app.start(argv=sys.argv[2:])


if __name__ == "__main__":
    main()
