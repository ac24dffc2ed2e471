"""A stack of its own for a run of faults, and a client that never gives up and keeps a log."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import urllib3
import yaml
from psycopg.rows import dict_row

from oms.demo import samples
from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT, Environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack
from tests.chaos import shapes
from tests.chaos.proxy import Proxy

CALL_SECONDS = 5
CALLBACK_SECONDS = 10
"""Timeouts of the chaos edition of the shipped workflows: a run shall see many of them end."""
LANGUAGE = tuple(sorted(path.name for path in samples.FOLDER.iterdir() if path.is_dir()))
"""Folders of samples beside those of the demo; none is left out."""
_BATCHES = 101
"""Of a clean-up that somebody has to sign off: just enough for that."""
_SUBMITTERS = 4
_PAUSE_SECONDS = 0.3
# Limits that an operator might have set; the checker reads them from the same rows.
_LIMITS = """
UPDATE fulfillment_targetsystem SET concurrency_limit = 4 WHERE name = 'payment';
UPDATE fulfillment_targetsystem SET rate_per_second = 25, rate_burst = 5
    WHERE name = 'notification';
UPDATE fulfillment_targetsystem SET breaker_failures = 10, breaker_pause = '3 s'
    WHERE name = 'logistics';
"""


class ChaosStack(Stack):
    """A stack whose processes reach PostgreSQL through a proxy, and may die at failpoints."""

    def __init__(
        self, environment: Environment, *, proxy: Proxy, failpoints: str, say: Any
    ) -> None:
        self._proxy = proxy
        self._failpoints = failpoints
        super().__init__(environment, say=say)

    def variables(self) -> dict[str, str]:
        return {
            **super().variables(),
            "DATABASE_URL": self._proxy.url(self.environment.database_url),
            "OMS_FAILPOINTS": self._failpoints,
        }

    def straight(self) -> dict[str, str]:
        """The same environment without faults on the way, for whoever looks on."""
        return {**super().variables(), "OMS_FAILPOINTS": ""}

    def rows(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """What a superuser sees, past the proxy; raises psycopg.Error when there is no database."""
        with self.superuser() as connection:
            return connection.execute(statement, parameters or None).fetchall()

    def superuser(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(
            self.layout.database_url(user="postgres"),
            autocommit=True,
            connect_timeout=3,
            options="-c default_transaction_read_only=off",
            row_factory=dict_row,
        )

    @property
    def ledger(self) -> Path:
        return self.layout.home / "sandbox.sqlite3"


def clear(environment: Environment) -> None:
    """Forget an earlier run in this home."""
    layout = layout_of(environment.home)
    for folder in {layout.servers, layout.sockets.parent, layout.logs, layout.home / "chaos"}:
        shutil.rmtree(folder, ignore_errors=True)
    for file in layout.home.glob("sandbox.sqlite3*"):
        file.unlink()


def furnish(stack: ChaosStack, *, for_undo: bool) -> str:
    """Schema, targets with limits, workflows with short timeouts. Returns an API key."""
    prepare(_Straight(stack), say=lambda _: None)
    folder = stack.layout.home / "chaos"
    folder.mkdir(exist_ok=True)
    if for_undo:
        files = [
            str(in_a_hurry(path, folder, change=shapes.given_up_on_failure))
            for path in shapes.files(folder)
        ]
    else:
        files = [str(in_a_hurry(path, folder)) for path in sorted(shipped())]
    manage(stack, "workflows", "--verbosity", "0", "publish", *files)
    with stack.superuser() as connection:
        for statement in _LIMITS.strip().split(";\n"):
            connection.execute(statement)
    return manage(stack, "api_key", "create", "--client", "chaos", "--quiet")


class _Straight:
    """What `prepare` needs of a stack; it must not go through the proxy."""

    def __init__(self, stack: ChaosStack) -> None:
        self.environment, self.servers, self.layout = stack.environment, stack.servers, stack.layout
        self.variables = stack.straight


def manage(stack: ChaosStack, *arguments: str) -> str:
    """`manage.py …` without faults; what it printed."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=CHECKOUT,
        env={**os.environ, **stack.straight()},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def shipped() -> list[Path]:
    """The workflows' first versions; what is migrated to is made of them."""
    return list((CHECKOUT / "templates" / "workflows").glob("*/v1.yaml"))


def in_a_hurry(
    path: Path,
    folder: Path,
    *,
    version: int = 1000,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """An edition of a shipped workflow that waits seconds where that one waits minutes.

    Its windows are open at any time: a run may be on a Sunday, and it lasts minutes. Odd versions
    have one more task, so that orders gain it and lose it again when they are migrated.
    """
    document = yaml.safe_load(path.read_text())
    document["version"] = version
    if change is not None:
        change(document)
    tasks = document["tasks"].values()
    # Where there is another way, it shall be taken now and then.
    short = {task["retry"] for task in tasks if "fallback" in task and "retry" in task}
    for name, policy in document.get("retry_policies", {}).items():
        if policy.get("maximum_attempts") != 1:
            attempts = policy["maximum_attempts"] if name in short else 20
            policy.update(
                initial_interval="PT1S", maximum_interval="PT3S", maximum_attempts=attempts
            )
    for task in tasks:
        task.pop("window", None)
        if "target" not in task:
            continue  # A decision, a wait or a person makes no call.
        for one in (task, *_undos(task)):
            one["timeouts"] = {"call": f"PT{CALL_SECONDS}S", "callback": f"PT{CALLBACK_SECONDS}S"}
    if version % 2 and "subprocess" not in document:
        timeouts = {"call": f"PT{CALL_SECONDS}S", "callback": f"PT{CALLBACK_SECONDS}S"}
        with_a_note(document, timeouts=timeouts)
    written = folder / document["workflow"] / f"v{version}.yaml"
    written.parent.mkdir(exist_ok=True)
    written.write_text(yaml.safe_dump(document, sort_keys=False))
    return written


def _undos(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How a task is undone, by whichever way it was done."""
    ways = (task, *task.get("fallback", ()))
    return [way["compensation"] for way in ways if "action" in way.get("compensation", {})]


def batch(*, orders: int, more: Sequence[str]) -> list[dict[str, Any]]:
    """The samples in turn. A report waits for a refresh of this run, before it or after it.

    Without a refresh among them there are no reports: they would wait for hours.
    """
    bodies = samples.batch(count=orders, run="chaos", more=more)
    refreshes = [number for number, body in enumerate(bodies) if _offering(body) == "data-refresh"]
    wanted = []
    for number, body in enumerate(bodies):
        characteristics = dict(body["items"][0].get("characteristics", {}))
        if _offering(body) == "daily-report":
            if not refreshes:
                continue
            either = [one for one in refreshes if (one > number) == (number % 2 == 0)]
            name = bodies[(either or refreshes)[0]]["external_id"]
            characteristics["date"] = name.removeprefix("data-refresh-")
        if characteristics.get("batches", 0) > _BATCHES:
            characteristics["batches"] = _BATCHES
        item = {**body["items"][0], "characteristics": characteristics}
        wanted.append({**body, "items": [item, *body["items"][1:]]})
    return wanted


def _offering(body: Mapping[str, Any]) -> str:
    return str(body["items"][0]["offering"])


def with_a_note(document: dict[str, Any], **more: Any) -> None:
    """One more task for a workflow, which nothing else needs."""
    first = next(name for name, task in document["tasks"].items() if "for_each" not in task)
    document["tasks"]["note"] = {
        "title": "Make a note of it",
        "target": "crm",
        "action": "record_approval",
        "depends_on": [{"success": first}],
        "required": False,
        "compensation": {"none": "A note stays as evidence."},
        **more,
    }


class Submitter:
    """Submits orders at a steady pace over HTTP, each until it is acknowledged.

    It holds back while too many are under way, so the run may take longer than it was given.

    The log has one JSON line per acknowledged order, on disk before the next is thought of.
    What was not acknowledged is sent again under the same Idempotency-Key, and now and then
    what was acknowledged as well: the answer must be the same.
    """

    def __init__(
        self, *, url: str, key: str, bodies: Sequence[dict[str, Any]], seconds: float, log: Path
    ) -> None:
        self._url = f"{url}/api/v1/orders"
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._http = urllib3.PoolManager(
            maxsize=_SUBMITTERS, retries=False, timeout=urllib3.Timeout(10)
        )
        self._bodies = bodies
        self._pause = seconds / max(len(bodies), 1)
        self._log = log.open("a")
        self._writing = threading.Lock()
        self._waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self.acknowledged = 0
        self.known: list[tuple[str, Mapping[str, Any]]] = []
        """References and bodies of what is acknowledged."""
        self.repeated = 0
        self.held_back = False
        """While it is set nothing new is submitted; what was is still seen through."""
        self.wrong: list[str] = []
        """Answers that a client must never get."""
        self._threads = [
            threading.Thread(target=self._work, name=f"client-{n}", daemon=True)
            for n in range(_SUBMITTERS)
        ]
        self._pacer = threading.Thread(target=self._pace, name="client", daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._pacer):
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in (*self._threads, self._pacer):
            thread.join(30)
        self._log.close()

    @property
    def done(self) -> bool:
        return self.acknowledged + len(self.wrong) >= len(self._bodies)

    def _pace(self) -> None:
        for number in range(len(self._bodies)):
            self._waiting.put(number)
            if self._stopped.wait(self._pause):
                break
            while self.held_back and not self._stopped.wait(_PAUSE_SECONDS):
                pass
        for _ in self._threads:
            self._waiting.put(None)

    def _work(self) -> None:
        while (number := self._waiting.get()) is not None:
            first = self._until_answered(number)
            if first is None:
                return
            self._note(number, first)
            if number % 10 == 3 and (again := self._until_answered(number)) is not None:
                self.repeated += 1
                if again.get("id") != first.get("id"):
                    self.wrong.append(f"{number}: {first.get('id')}, then {again.get('id')}")

    def _until_answered(self, number: int) -> dict[str, Any] | None:
        body = json.dumps(self._bodies[number])
        headers = {**self._headers, "Idempotency-Key": f"chaos-{number}"}
        while not self._stopped.is_set():
            try:
                answer = self._http.request("POST", self._url, body=body, headers=headers)
                if answer.status < 500 and answer.status != 429:
                    return self._read(number, answer)
            except urllib3.exceptions.HTTPError:
                pass
            self._stopped.wait(_PAUSE_SECONDS)
        return None

    def _read(self, number: int, answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
        document: Mapping[str, Any] = json.loads(answer.data)
        if answer.status == 201:
            return dict(document)
        self.wrong.append(f"{number}: {answer.status} {answer.data[:300]!r}")
        return {}

    def _note(self, number: int, order: Mapping[str, Any]) -> None:
        if "id" not in order:
            return
        entry = {
            "at": time.time(),
            "external_id": self._bodies[number]["external_id"],
            "reference": order["id"],
        }
        with self._writing:
            self._log.write(json.dumps(entry) + "\n")
            self._log.flush()
            os.fsync(self._log.fileno())
            self.acknowledged += 1
            self.known.append((order["id"], self._bodies[number]))
