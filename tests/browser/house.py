"""A whole stack that people look at through a browser: its API, and its sandbox.

Nothing here uses Django's models: the browser's thread runs an event loop, where Django refuses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

from adapters.signatures import sign
from oms.embedded.layout import Layout
from oms.environment import CHECKOUT
from oms.supervisor.stack import Stack
from tests.conftest import home_in
from tests.stacks import servers_like
from tests.waiting import until

LINE_RENTAL = Path(__file__).parent / "line-rental.yaml"
CLIENT = "shop"
"""Whose program submits the orders."""
PEOPLE = ("finance", "senior", "supply")
"""Who asks by program as well."""

_FOLLOW = urllib3.Retry(total=None, connect=0, read=0, redirect=3)
_AT_ONCE = 4
"""Requests that a house's web processes have in hand at the same time."""


class House:
    """One stack, what its clients see of it, and what its people may be asked by name."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.address = f"http://127.0.0.1:{stack.environment.web_port}"
        self.password = (stack.layout.secrets / "demo-password").read_text().strip()
        self._http = urllib3.PoolManager(retries=False, timeout=60, maxsize=_AT_ONCE)
        furnished = subprocess.run(
            [sys.executable, "-m", "tests.browser.furnish"],
            cwd=CHECKOUT,
            env={**os.environ, **stack.variables()},
            capture_output=True,
            text=True,
            check=True,
        )
        self._keys: dict[str, str] = json.loads(furnished.stdout)
        self._named = 0

    def call(self, method: str, path: str, body: Any = None, *, who: str = CLIENT) -> Any:
        """What the API answers to a program, or to one of `PEOPLE`."""
        answer = self._http.request(
            method,
            f"{self.address}/api/v1{path}",
            body=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {self._keys[who]}",
                "Content-Type": "application/json",
            },
        )
        assert answer.status < 300, answer.data
        return answer.json()

    def fetch(
        self, paths: Iterable[str], *, cookies: str, method: str = "GET"
    ) -> dict[str, tuple[int, str]]:
        """Of many pages the status and the text, as whoever has these cookies sees them."""

        def one(path: str) -> tuple[str, tuple[int, str]]:
            answer = self._http.request(
                method, f"{self.address}{path}", headers={"Cookie": cookies}, retries=_FOLLOW
            )
            return path, (answer.status, answer.data.decode())

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return dict(threads.map(one, paths))

    def report(self, target: str, **report: Any) -> None:
        """What a target system says by itself, signed as it would."""
        body = json.dumps(report).encode()
        signed = sign(
            message_id=self.name("told"),
            at_seconds=int(time.time()),
            body=body,
            secrets=self.stack.environment.callback_secrets.of(target),
        )
        url = f"{self.address}/api/v1/callbacks/{target}"
        answer = self._http.request("POST", url, body=body, headers=signed)
        assert answer.status < 300, answer.data

    def script(self, *rules: dict[str, Any]) -> None:
        """What target systems do wrong from now on; nothing: they are mended."""
        url = f"{self.stack.environment.sandbox_url}/behaviours"
        assert self._http.request("PUT", url, body=json.dumps(list(rules))).status == 200

    def refuses(self, target: str, code: str) -> None:
        """A target system refuses everything, for a reason that trying again does not mend."""
        self.script({"match": {"target": target}, "behaviour": {"kind": "reject", "code": code}})

    def name(self, word: str) -> str:
        """A new one each time."""
        self._named += 1
        return f"{word.upper()}-{self._named}"

    def submit(self, *orders: dict[str, Any]) -> list[str]:
        """References, in the order of what was submitted."""
        results = self.call("POST", "/orders", {"orders": list(orders)})["results"]
        assert all(not one["order"]["faults"] for one in results), results
        return [one["order"]["id"] for one in results]

    def order(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/orders/{reference}")
        return found

    def states(self, references: list[str]) -> set[str]:
        """Of all these orders."""
        wanted = set(references)
        found: dict[str, str] = {}
        path = "/orders?limit=200"
        while path:
            page = self.call("GET", path)
            found |= {one["id"]: one["state"] for one in page["orders"]}
            path = (page["next"] or "").partition("/api/v1")[2] if wanted - found.keys() else ""
        return {found[one] for one in wanted}

    def cases(self, **lookups: Any) -> list[dict[str, Any]]:
        """Those that are open, at most 200."""
        asked = "&".join(f"{name}={value}" for name, value in lookups.items())
        answer = self.call("GET", f"/cases?state=open&limit=200&{asked}", who="senior")
        found: list[dict[str, Any]] = answer["cases"]
        return found

    def case_of(self, reference: str) -> dict[str, Any]:
        """The only open case of an order, once there is one."""
        until(lambda: bool(self.cases(order=reference)), seconds=60)
        (case,) = self.cases(order=reference)
        return case

    def operate(self, action: str, subject: str, *, who: str, **told: Any) -> dict[str, Any]:
        """What became of it, or of the request for approval."""
        body = {"action": action, "subject": subject, **told}
        done: dict[str, Any] = self.call("POST", "/operations", body, who=who)
        return done

    def effects(self, reference: str) -> list[str]:
        """What target systems have really done for an order, in this sequence."""
        url = f"{self.stack.environment.sandbox_url}/ledger/executions?order={reference}"
        found = json.loads(self._http.request("GET", url).data)
        return [f"{one['target']} {one['action']}" for one in found["executions"]]

    def incident(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/incidents/{number}", who="senior")
        return found

    def jobs_of(self, incident: int) -> list[dict[str, Any]]:
        """The bulk jobs that release an incident."""
        answer = self.call("GET", f"/bulk-jobs?incident={incident}", who="senior")
        found: list[dict[str, Any]] = answer["bulk_jobs"]
        return found

    def failed(self, code: str, *, target: str = "billing", **changes: Any) -> str:
        """An order that this target system has refused; by then it is mended again."""
        self.refuses(target, code)
        (reference,) = self.submit(line_rental(self.name("failed"), **changes))
        self.case_of(reference)
        self.script()
        return reference

    def task_of(self, reference: str) -> int:
        """What the only open case of an order is about."""
        (task,) = self.call("GET", f"/cases/{self.case_of(reference)['id']}", who="senior")["tasks"]
        return int(task["id"])

    def incident_of(self, code: str, *, cases: int) -> int:
        """The incident of that reason, once it has so many open cases."""
        found: list[int] = []

        def is_there() -> bool:
            rows = self.call("GET", "/incidents", who="senior")["incidents"]
            found[:] = [
                one["id"] for one in rows if code in one["title"] and one["open_cases"] == cases
            ]
            return bool(found)

        until(is_there, seconds=120, pause_seconds=0.2)
        return found[0]

    def until_state(self, state: str, *references: str, seconds: float = 60) -> None:
        until(lambda: self.states(list(references)) == {state}, seconds=seconds, pause_seconds=0.2)

    def until_it_answers(self) -> None:
        """Once more, after a process of it has ended: it is started again, as it always is."""

        def answers() -> bool:
            self.stack.watch()
            try:
                health = self._http.request("GET", f"{self.address}/api/v1/health")
            except urllib3.exceptions.HTTPError:
                return False
            return health.status == 200

        until(answers, seconds=60, pause_seconds=0.2)


@contextmanager
def house_like(model: Layout, *, folder: Path) -> Iterator[House]:
    """A house whose stack runs, and which knows the workflow that the walks are about."""
    with home_in(folder) as home, servers_like(model, home=home) as stack:
        stack.start(without=("flower",))
        stack.wait_ready()
        yield House(stack)


def line_rental(external_id: str, **changes: Any) -> dict[str, Any]:
    """An order that is checked, billed, and told about."""
    return {
        "external_id": external_id,
        "customer": {"id": "C-77", "name": "Lindgren & Sons", "email": "office@lindgren.example"},
        "billing_account": "BA-77",
        "region": "EU",
        "items": [
            {
                "item_id": "1",
                "action": "add",
                "offering": "line-rental",
                "quantity": 1,
                "price": {"one_off": "20.00", "recurring": "9.90", "currency": "EUR"},
            }
        ],
        **changes,
    }


def sample(name: str, **changes: Any) -> dict[str, Any]:
    """A shipped sample order, such as "webshop-single"."""
    body = json.loads((CHECKOUT / "examples" / "orders" / f"{name}.json").read_text())
    return {**body, **changes}
