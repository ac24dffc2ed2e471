"""The people of a run under fire: they decide and they report, over HTTP, like anybody else.

What they have been told is kept goes into a log, one JSON line each, for the checker.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import urllib3

_VALUES: Mapping[str, Any] = {
    "string": "as agreed",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "list": [],
    "object": {},
}
_REPORTED: Mapping[str, Sequence[Any]] = {
    "condition": ("as_new", "as_new", "damaged"),
    "slot": ("2026-01-05T09:00:00Z",),
}
"""What reports bring along, where the workflow makes something of it."""
_AWAITED = """
SELECT t.id AS task, t.state, t.awaits, f.order_reference AS reference,
       n.node->'outputs' AS outputs,
       n.node->'wait'->>'name' AS name, n.node->'wait'->>'kind' AS kind
FROM fulfillment_task t
JOIN fulfillment_fulfillment f ON f.id = t.fulfillment_id
JOIN fulfillment_plan p ON p.id = t.plan_id
JOIN fulfillment_plangraph g ON g.id = p.graph_id
CROSS JOIN LATERAL (SELECT g.document #> ARRAY['nodes', t.node::text] AS node) n
WHERE t.target_id = '' AND t.state IN ('PENDING', 'ACCEPTED', 'AWAITING_MANUAL')
  AND (n.node->'wait'->>'kind' = 'signal'
       OR (n.node->'wait'->>'kind' = 'milestone' AND n.node->'wait'->>'key' = ''))
ORDER BY t.id
"""
Rows = Callable[[str], Sequence[Mapping[str, Any]]]


class NotAnswered(Exception):
    """The desk can't at the moment; it is asked again."""


class Person:
    """Does its work once a second until it is stopped, whatever the weather."""

    look_seconds = 1.0

    def __init__(self, *, url: str, key: str, seed: int, log: Path) -> None:
        self.wrong: list[str] = []
        """Answers that nobody must get."""
        self.done = 0
        self._url = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._http = urllib3.PoolManager(maxsize=2, retries=False, timeout=urllib3.Timeout(10))
        self._dice = random.Random(f"{type(self).__name__}/{seed}")
        self._log = log.open("a")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)
        self._log.close()

    def work(self) -> None:
        """One look at what there is to do."""
        raise NotImplementedError

    def _live(self) -> None:
        while not self._stopped.wait(self.look_seconds):
            try:
                self.work()
            except (urllib3.exceptions.HTTPError, psycopg.Error, NotAnswered):
                continue  # The desk is down, or answers half of what it should.
            except Exception as error:  # It goes on, and the run has failed.
                self.wrong.append(f"{type(self).__name__}: {type(error).__name__}: {error}")

    def _get(self, path: str) -> Any:
        answer = self._http.request("GET", f"{self._url}{path}", headers=self._headers)
        if answer.status != 200:
            raise NotAnswered(f"{path}: {answer.status}")
        return answer.json()

    def _post(self, path: str, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        return self._http.request(
            "POST", f"{self._url}{path}", json=body, headers={**self._headers, **headers}
        )

    def _note(self, **entry: Any) -> None:
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        self.done += 1


class Decider(Person):
    """Decides at random, some tasks twice: the second answer must be that it was decided."""

    def work(self) -> None:
        for summary in self._get("/manual-tasks?state=OPEN&limit=200")["manual_tasks"]:
            number = summary["id"]
            task = self._get(f"/manual-tasks/{number}")
            body = self._decision(task)
            for _ in range(1 + (self._dice.random() < 0.2)):
                key = f"decision-{number}-{self._dice.random()}"
                answer = self._post(
                    f"/manual-tasks/{number}/decision", body, **{"Idempotency-Key": key}
                )
                if answer.status == 200:
                    self._note(decided=number, outcome=body["outcome"])
                elif answer.status < 500 and answer.status not in (409, 429):
                    self.wrong.append(f"{number}: {answer.status} {answer.data[:200]!r}")

    def _decision(self, task: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: _VALUES[spec["type"]] for name, spec in task["fields"].items()}
        outcomes = sorted(task["outcomes"])
        if "undo_it" in outcomes and self._dice.random() < 0.9:
            outcomes = ["undo_it"]  # What is left stays with a person: that is no end of an order.
        return {
            "outcome": self._dice.choice(outcomes),
            "values": values,
            "reason": "It was looked at.",
        }


class Reporter(Person):
    """Reports whatever tasks wait for: some of it early, some twice, some wrongly at first.

    What is waited for is read past everything that is broken (`rows`); it is reported over HTTP,
    under the same event id until it has been answered.
    """

    def __init__(self, *, rows: Rows, **person: Any) -> None:
        super().__init__(**person)
        self._rows = rows
        self._seen: set[tuple[int, str]] = set()
        """Tasks and the states in which they have been dealt with."""
        self._sent = 0
        self._unanswered: list[tuple[str, dict[str, Any]]] = []

    def work(self) -> None:
        for row in self._rows(_AWAITED):
            moment = row["task"], row["state"]
            if moment in self._seen:
                continue
            self._seen.add(moment)
            if row["state"] != "PENDING":
                fits = row["state"] == "AWAITING_MANUAL" or self._dice.random() > 0.15
                self._unanswered.append(self._report(row, fits=fits))
            elif row["kind"] == "milestone" and self._dice.random() < 0.2:
                self._unanswered.append(self._report(row, fits=True))
        while self._unanswered:
            path, body = self._unanswered[0]
            for turn in range(1 + (self._dice.random() < 0.2)):
                self._send(path, body, repeated=turn > 0)
            self._unanswered.pop(0)

    def _report(self, row: Mapping[str, Any], *, fits: bool) -> tuple[str, dict[str, Any]]:
        self._sent += 1
        payload = {
            name: self._dice.choice(_REPORTED.get(name, (_VALUES[spec["type"]],)))
            for name, spec in row["outputs"].items()
        }
        if not fits:
            payload = dict.fromkeys(payload)
        body = {"name": row["name"], "event_id": f"chaos-{self._sent}", "payload": payload}
        if row["kind"] == "signal":
            _, _, subject = row["awaits"].partition(" ")
            return "/signals", {**body, "key": subject.partition("/")[2]}
        return f"/orders/{row['reference']}/milestones", body

    def _send(self, path: str, body: dict[str, Any], *, repeated: bool) -> None:
        answer = self._post(path, body)
        if answer.status == 202:
            if repeated and not answer.json()["duplicate"]:
                self.wrong.append(f"{body['event_id']}: taken twice")
            self._note(event_id=body["event_id"], name=body["name"])
        elif answer.status < 500 and answer.status != 429:
            self.wrong.append(f"{body['event_id']}: {answer.status} {answer.data[:200]!r}")
        else:
            raise NotAnswered(f"{path}: {answer.status}")
