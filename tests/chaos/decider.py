"""The people of a run under fire: they decide every manual task, over HTTP, like anybody else."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

import urllib3

_LOOK_SECONDS = 1.0
_VALUES: Mapping[str, Any] = {
    "string": "as agreed",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "list": [],
    "object": {},
}


class Decider:
    """Decides at random, some tasks twice: the second answer must be that it was decided."""

    def __init__(self, *, url: str, key: str, seed: int) -> None:
        self._url = f"{url}/api/v1/manual-tasks"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10))
        self._dice = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="decider", daemon=True)
        self.decided = 0
        self.wrong: list[str] = []
        """Answers that nobody who decides must get."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _work(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                self._decide_all()
            except (urllib3.exceptions.HTTPError, ValueError):
                continue  # The desk is down, or answers half of what it should.

    def _decide_all(self) -> None:
        listed = self._http.request(
            "GET", f"{self._url}?state=OPEN&limit=200", headers=self._headers
        )
        if listed.status != 200:
            return
        for summary in listed.json()["manual_tasks"]:
            task = self._http.request(
                "GET", f"{self._url}/{summary['id']}", headers=self._headers
            ).json()
            body = self._decision(task)
            for turn in range(1 + (self._dice.random() < 0.2)):
                answer = self._http.request(
                    "POST",
                    f"{self._url}/{summary['id']}/decision",
                    json=body,
                    headers={
                        **self._headers,
                        "Idempotency-Key": f"decision-{summary['id']}-{self._dice.random()}",
                    },
                )
                self.decided += answer.status == 200 and turn == 0
                if answer.status < 500 and answer.status not in (200, 409, 429):
                    self.wrong.append(f"{summary['id']}: {answer.status} {answer.data[:200]!r}")

    def _decision(self, task: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: _VALUES[spec["type"]] for name, spec in task["fields"].items()}
        return {
            "outcome": self._dice.choice(sorted(task["outcomes"])),
            "values": values,
            "reason": "It was looked at.",
        }
