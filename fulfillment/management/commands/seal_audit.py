"""`manage.py seal_audit`: seal what has come since the last seal, now."""

from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand

from fulfillment.audit.sealing import seal_new


class Command(BaseCommand):
    help = "Seal the audit trails now, as beat does every minute."

    def handle(self, *args: Any, **options: Any) -> None:
        seal = seal_new()
        if seal is None:
            self.stdout.write("There is nothing new to seal.")
            return
        self.stdout.write(f"Sealed: {seal.number}:{seal.seal}, with the key {seal.key_id}.")
