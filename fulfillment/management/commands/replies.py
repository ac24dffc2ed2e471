"""`manage.py replies`: fetch what target systems reply by messages, until asked to stop."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management import BaseCommand

from fulfillment.engine.dispatch import replies


class Command(BaseCommand):
    help = (
        "Fetch the replies of target systems that are reached by messages into the inbox. Runs "
        "until SIGTERM, and finishes what it has in hand; several may run."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        replies.run(stop=stop)
