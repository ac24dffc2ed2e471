"""The sandbox as a process of a test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import urllib3

from oms.environment import CHECKOUT
from tests.waiting import until

SECRET = "of the tests alone"
_http = urllib3.PoolManager(retries=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Sandbox:
    """One sandbox process; it may be killed and started again on the same ledger."""

    def __init__(self, ledger: Path, *arguments: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ledger = ledger
        self.start(*arguments)

    def start(self, *arguments: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "adapters.sandbox"),
                *("--port", str(self.port), "--ledger", str(self.ledger), *arguments),
            ],
            cwd=CHECKOUT,
            env={**os.environ, "OMS_CALLBACK_SECRET": SECRET, **variables},
            stderr=subprocess.DEVNULL,
        )
        until(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, "the sandbox ended"
        try:
            return self.get("/healthz") == {"status": "ok"}
        except urllib3.exceptions.HTTPError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        response = _http.request(method, self.url + path, body=data)
        return response.status, json.loads(response.data) if response.data else None

    def get(self, path: str) -> Any:
        status, document = self.request("GET", path)
        assert status == 200, document
        return document

    def script(self, *rules: dict[str, Any]) -> None:
        status, document = self.request("PUT", "/behaviours", list(rules))
        assert status == 200, document

    def effects(self, order: str) -> Counter[str]:
        """How often each key of the order was executed, by the sandbox's own ledger."""
        rows = self.get(f"/ledger/executions?order={order}&limit=1000")["executions"]
        return Counter(row["idempotency_key"] for row in rows)

    def executed(self, key: str) -> int:
        """How often one key was executed."""
        return len(self.get(f"/ledger/executions?key={key}&limit=10")["executions"])
