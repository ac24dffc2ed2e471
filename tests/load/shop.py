"""A client that orders over the API, for measurements on a whole stack."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from oms.environment import CHECKOUT
from oms.supervisor.stack import Stack
from tests.load.stacks import tidy_up

_BATCH = 250


class Shop:
    """Orders over the API; what the target systems do is scripted in the sandbox."""

    def __init__(self, stack: Stack) -> None:
        from oms.demo.client import Client

        self._number = 0
        key = subprocess.run(
            [sys.executable, "manage.py", "api_key", "create", "--client", "load", "--quiet"],
            cwd=CHECKOUT,
            env=stack.variables(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        self._client = Client(
            api_url=f"http://127.0.0.1:{stack.environment.web_port}",
            sandbox_url=stack.environment.sandbox_url,
            key=key,
        )

    def script(self, behaviours: list[dict[str, Any]]) -> None:
        self._client.script(behaviours)

    def submit(
        self,
        count: int,
        *,
        offering: str,
        customer: str = "C-1",
        characteristics: dict[str, Any] | None = None,
    ) -> list[str]:
        """References of so many orders of one item."""
        references: list[str] = []
        for first in range(0, count, _BATCH):
            self._number += 1
            run = f"{os.getpid()}-{self._number}"
            orders = [
                {
                    "external_id": f"L-{run}-{position}",
                    "customer": {"id": customer},
                    "items": [
                        {
                            "item_id": "1",
                            "action": "add",
                            "offering": offering,
                            "characteristics": characteristics or {},
                        }
                    ],
                }
                for position in range(min(_BATCH, count - first))
            ]
            results = self._client.submit(orders=orders, idempotency_key=f"load-{run}")
            references += [result["order"]["id"] for result in results]
        return references

    def multiplied(self, count: int, *, offering: str, customer: str) -> None:
        """So many orders, as if all had come at this moment: one comes, the rest is copied.

        What they need has to be paused, or the first one is done before it is copied.
        """
        from fulfillment.engine.protection.fairness import STEP_MS
        from fulfillment.models import Fulfillment
        from tests import crowd

        (first,) = self.submit(1, offering=offering, customer=customer)
        row = Fulfillment.objects.get(order_reference=first)
        if count > 1:
            crowd.multiply(count - 1, of=[row.pk], pace_ms=STEP_MS)
        tidy_up()
