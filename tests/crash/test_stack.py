"""The whole stack on real processes: every sample completes, whatever is killed or switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3

from oms.demo import samples
from oms.demo.client import Client
from oms.embedded import postgres, process
from oms.embedded.layout import Layout, layout_of
from oms.environment import CHECKOUT, Environment, read_environment
from oms.supervisor.processes import running
from oms.supervisor.stack import Stack, with_free_ports
from tests.stacks import copy, servers_like
from tests.waiting import until

# Every kind of trouble that shows within a second; what needs a call's whole timeout is slow.
TROUBLE: list[dict[str, Any]] = [
    {"match": {"target": target, "attempt": 1}, "probability": 0.5, "behaviour": behaviour}
    for target, behaviour in (
        ("payment", {"kind": "cut_connection"}),
        ("logistics", {"kind": "garbage"}),
        ("billing", {"kind": "cut_connection"}),
        ("crm", {"kind": "status", "status": 503}),
        ("provisioning", {"kind": "duplicate_callback"}),
        ("inventory", {"kind": "callback_before_answer"}),
    )
]


class Shop:
    """A stack of the test's own, and a client of its API.

    The stack may as well be one that a process of its own drives; then `watch` sees nothing.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        key = self.manage("api_key", "create", "--client", "shop", "--quiet")
        self._api = f"http://127.0.0.1:{stack.environment.web_port}"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._http = urllib3.PoolManager(retries=False, timeout=10)
        self.client = Client(api_url=self._api, sandbox_url=stack.environment.sandbox_url, key=key)
        self.client.script(TROUBLE)

    def manage(self, *arguments: str, check: bool = True) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=self.stack.variables(),
            capture_output=True,
            text=True,
            check=check,
        ).stdout.strip()

    def submit(self, count: int) -> list[str]:
        """References of `count` orders, the samples in turn."""
        results = self.client.submit(
            orders=samples.batch(count=count, run="test"), idempotency_key="once"
        )
        return [result["order"]["id"] for result in results]

    def orders(self) -> list[dict[str, Any]]:
        """All orders as the API lists them; none while it does not answer."""
        try:
            answer = self._http.request(
                "GET", f"{self._api}/api/v1/orders?limit=200", headers=self._headers
            )
        except urllib3.exceptions.HTTPError:
            return []
        orders: list[dict[str, Any]] = answer.json()["orders"] if answer.status == 200 else []
        return orders

    def unfinished(self) -> dict[str, Any]:
        """What each order that is not completed says of itself, and of its tasks."""
        said = {}
        for order in self.orders():
            if order["state"] != "COMPLETED":
                address = f"{self._api}/api/v1/orders/{order['id']}"
                why = self._http.request("GET", f"{address}/why", headers=self._headers)
                said[order["id"]] = (order, why.json())
        return said

    def complete(self, references: list[str]) -> None:
        """Until all are completed; then each command has had its one effect."""

        def completed() -> bool:
            self.stack.watch()
            states = Counter(order["state"] for order in self.orders())
            return states == {"COMPLETED": len(references)}

        # A feasibility question whose asker was killed is asked again after a minute.
        try:
            until(completed, seconds=150)
        except pytest.fail.Exception:
            pytest.fail(f"Not all are completed: {self.unfinished()}")
        tasks = {order["id"]: order["progress"]["tasks"] for order in self.orders()}
        assert sorted(tasks) == sorted(references)
        for reference in references:
            effects = Counter(
                row["idempotency_key"] for row in self.client.executions(order=reference)
            )
            assert len(effects) >= tasks[reference] >= 6
            assert set(effects.values()) == {1}


@pytest.fixture
def shop(home: Path, stack_model: Layout, request: pytest.FixtureRequest) -> Iterator[Shop]:
    with servers_like(stack_model, home=home, **getattr(request, "param", {})) as stack:
        stack.start(without=("flower",))
        stack.wait_ready()
        yield Shop(stack)


def test_killed_processes_and_a_flushed_redis_lose_nothing(shop: Shop) -> None:
    references = shop.submit(14)
    stack = shop.stack
    for victims in (
        ("web", "worker-provisioning"),
        ("worker-inventory", "worker-payment", "orchestration"),
        ("web", "worker-crm", "beat"),
    ):
        for victim in victims:
            stack.kill(victim)
        redis.Redis(unix_socket_path=str(stack.layout.redis_socket)).flushall()
        gone = {victim: stack.pid(victim) for victim in victims}

        def back(gone: dict[str, int | None] = gone) -> bool:
            stack.watch()
            return all(stack.pid(name) not in (None, pid) for name, pid in gone.items())

        until(back)
        until(lambda: bool(shop.orders()))
        assert {order["state"] for order in shop.orders()} != {"COMPLETED"}
    shop.complete(references)


class Supervisor:
    """`manage.py stack up` as somebody types it, with its own home and ports."""

    def __init__(self, environment: Environment, log: Path) -> None:
        self.environment = environment
        self._log = log
        self.layout = layout_of(environment.home)

    def start(self) -> None:
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "stack", "up"],
                cwd=CHECKOUT,
                env={
                    "PATH": os.environ["PATH"],
                    "OMS_HOME": str(self.environment.home),
                    "OMS_WEB_PORT": str(self.environment.web_port),
                    "OMS_FLOWER_PORT": str(self.environment.flower_port),
                    "OMS_SANDBOX_PORT": str(self.environment.sandbox_port),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        until(self._is_up, seconds=90)

    def _is_up(self) -> bool:
        said = self._log.read_text()
        assert self._process.poll() is None, said
        return "The stack is up" in said

    def children(self) -> dict[str, int]:
        """Process ids by name, of those that run."""
        found = {record.stem: running(record) for record in self.layout.run.glob("*.json")}
        return {name: pid for name, pid in found.items() if pid is not None}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(60)


@pytest.fixture
def supervisor(home: Path, tmp_path: Path, stack_model: Layout) -> Iterator[Supervisor]:
    copy(stack_model, layout_of(home))
    environment = with_free_ports(read_environment({"OMS_HOME": str(home)}))
    supervisor = Supervisor(environment, tmp_path / "supervisor.log")
    try:
        supervisor.start()
        yield supervisor
    finally:
        supervisor.kill()


def test_a_killed_supervisor_loses_nothing(supervisor: Supervisor) -> None:
    shop = Shop(Stack(supervisor.environment))
    references = shop.submit(7)
    until(lambda: any(order["progress"]["done"] for order in shop.orders()))
    assert {order["state"] for order in shop.orders()} != {"COMPLETED"}
    before, database = supervisor.children(), postgres.running_pid(supervisor.layout)
    assert {"web", "beat", "sandbox", "preloaded", "orchestration", "worker-crm"} <= set(before)
    supervisor.kill()
    supervisor.start()
    assert [name for name, pid in before.items() if process.is_alive(pid)] == []
    assert set(supervisor.children()) == set(before)
    assert postgres.running_pid(supervisor.layout) == database
    assert shop.submit(7) == references  # the same request again is the same orders
    shop.complete(references)
    assert supervisor.stop() == 0
    assert supervisor.children() == {}
    assert postgres.running_pid(supervisor.layout) is None


@pytest.mark.parametrize("shop", [{"fast_path": False}], indirect=True)
def test_every_sample_completes_without_the_fast_path(shop: Shop) -> None:
    shop.complete(shop.submit(7))


@pytest.mark.parametrize("shop", [{"scanner": False}], indirect=True)
def test_every_sample_completes_without_the_scanner(shop: Shop) -> None:
    shop.complete(shop.submit(7))
