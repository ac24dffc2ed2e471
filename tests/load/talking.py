"""A process that is asked by lines of JSON and answers by lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from tests.load.parts import BenchFailed


class Talking:
    """Started with `started(…, talking=True)`. Raises BenchFailed when it has ended."""

    def __init__(self, process: subprocess.Popen[str], *, log: str) -> None:
        self._process = process
        self._log = log
        self.listen()  # It says that it is ready.

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self.tell(question)
        return self.listen()

    def tell(self, question: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()

    def listen(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"A process that we are measured beside has ended; see {self._log}.")
        found: dict[str, Any] = json.loads(line)
        return found
