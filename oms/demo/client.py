"""The demo as a client of the API, and of the sandbox's ledger: plain HTTP, patient."""

from __future__ import annotations

import json
import time
from typing import Any

import urllib3

_PATIENCE_SECONDS = 60.0


class Client:
    """Repeats a request until it is answered, with the same Idempotency-Key: the web process
    may be killed and started again at any moment."""

    def __init__(self, *, api_url: str, sandbox_url: str, key: str) -> None:
        self._api = api_url
        self._sandbox = sandbox_url
        self._key = key
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(15))

    def submit(self, *, orders: list[dict[str, Any]], idempotency_key: str) -> list[dict[str, Any]]:
        answer = self._request(
            "POST",
            f"{self._api}/api/v1/orders",
            {"orders": orders},
            {"Authorization": f"Bearer {self._key}", "Idempotency-Key": idempotency_key},
        )
        results: list[dict[str, Any]] = answer["results"]
        return results

    def script(self, behaviours: list[dict[str, Any]]) -> None:
        """Tell the sandbox how its systems are to misbehave."""
        self._request("PUT", f"{self._sandbox}/behaviours", behaviours)

    def executions(self, *, order: str) -> list[dict[str, Any]]:
        """What the target systems really did for one order, from their own ledger."""
        answer = self._request("GET", f"{self._sandbox}/ledger/executions?order={order}&limit=1000")
        rows: list[dict[str, Any]] = answer["executions"]
        return rows

    def _request(
        self, method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Any:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                response = self._http.request(
                    method,
                    url,
                    body=None if body is None else json.dumps(body),
                    headers={"Content-Type": "application/json", **(headers or {})},
                )
                if response.status < 500:
                    break
                problem = f"answered {response.status}"
            except urllib3.exceptions.HTTPError as error:
                problem = type(error).__name__
            if time.monotonic() > deadline:
                raise DemoFailed(f"{method} {url} was not answered: {problem}.")
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        if response.status >= 400:
            raise DemoFailed(
                f"{method} {url} was refused: {response.data.decode(errors='replace')}"
            )
        return json.loads(response.data) if response.data else None


class DemoFailed(Exception):
    """The demo can't go on, or what it saw is not what it promises."""

    code = "oms.demo_failed"
