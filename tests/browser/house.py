"""A whole stack that people look at through a browser: its API, its sandbox, its command line.

Nothing here uses Django's models: the browser's thread runs an event loop, where Django refuses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

from oms.embedded.layout import Layout
from oms.environment import CHECKOUT
from oms.supervisor.stack import Stack
from tests.conftest import home_in
from tests.stacks import servers_like
from tests.waiting import until

LINE_RENTAL = Path(__file__).parent / "line-rental.yaml"


class House:
    """One stack, what its clients see of it, and what its people may be asked by name."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.address = f"http://127.0.0.1:{stack.environment.web_port}"
        self.password = (stack.layout.secrets / "demo-password").read_text().strip()
        self._http = urllib3.PoolManager(retries=False, timeout=30)
        self._keys: dict[str, str] = {}
        self.orders = 0
        """How many were named, so that every name is new."""

    def manage(self, *arguments: str) -> str:
        """What a command says. Raises CalledProcessError."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env={**os.environ, **self.stack.variables()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def call(self, method: str, path: str, body: Any = None, *, who: str = "") -> Any:
        """What the API answers to a program, or to a person by the name of `who`."""
        answer = self._http.request(
            method,
            f"{self.address}/api/v1{path}",
            body=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {self._key(who)}",
                "Content-Type": "application/json",
            },
        )
        assert answer.status < 300, answer.data
        return answer.json()

    def script(self, *rules: dict[str, Any]) -> None:
        """What target systems do wrong from now on; nothing: they are mended."""
        url = f"{self.stack.environment.sandbox_url}/behaviours"
        assert self._http.request("PUT", url, body=json.dumps(list(rules))).status == 200

    def refuses(self, target: str, code: str) -> None:
        """A target system refuses everything, for a reason that trying again does not mend."""
        self.script({"match": {"target": target}, "behaviour": {"kind": "reject", "code": code}})

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
        wanted, found = set(references), {}
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

    def _key(self, who: str) -> str:
        if who not in self._keys:
            whose = ("--user", who) if who else ("--client", "shop")
            self._keys[who] = self.manage("api_key", "create", *whose, "--quiet")
        return self._keys[who]


@contextmanager
def house_like(model: Layout, *, folder: Path) -> Iterator[House]:
    """A house whose stack runs, and which knows the workflow that the walks are about."""
    with home_in(folder) as home, servers_like(model, home=home) as stack:
        stack.start(without=("flower",))
        stack.wait_ready()
        house = House(stack)
        house.manage("workflows", "publish", str(LINE_RENTAL))
        yield house


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
