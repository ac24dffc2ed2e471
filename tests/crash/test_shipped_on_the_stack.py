"""Every shipped workflow on the whole stack: real processes, the API, beat, and a clock that jumps.

One stack serves all of them. Its database's clock says Tuesday, 10:00 in Vienna, and later a night
on: by then deadlines have passed and the maintenance window is open.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import urllib3
from psycopg import sql

from oms.embedded.layout import Layout
from oms.environment import CHECKOUT
from oms.supervisor.stack import Stack
from tests import shipped
from tests.conftest import home_in
from tests.stacks import servers_like
from tests.waiting import until

MORNING = datetime(2030, 7, 16, 8, 0, tzinfo=UTC)
NIGHT = datetime(2030, 7, 16, 23, 30, tzinfo=UTC)
# What target systems do wrong: an outage, a file that nobody can read, a lost answer.
TROUBLE: list[dict[str, Any]] = [
    {
        "match": {"target": "payment", "action": "authorise"},
        "times": 3,
        "behaviour": {"kind": "status", "status": 503, "code": "unavailable"},
    },
    {
        "match": {"target": "data-platform", "action": "enrich_partition"},
        "times": 1,
        "behaviour": {"kind": "reject", "code": "corrupt_file"},
    },
    {
        "match": {"target": "payment", "action": "capture", "attempt": 1},
        "times": 1,
        "behaviour": {"kind": "cut_connection"},
    },
]


class Shop:
    """A stack of the test's own, and what its clients see of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._http = urllib3.PoolManager(retries=False, timeout=10)
        self._keys: dict[str, str] = {}

    def set_clock(self, moment: datetime) -> None:
        """Turn the database's clock, for everybody: who is connected has to connect anew."""
        seconds = (moment - datetime.now(UTC)).total_seconds()
        url = self.stack.layout.database_url(user="postgres")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET fulfillment.clock_offset = {}").format(
                    sql.Identifier(connection.info.dbname), sql.Literal(str(seconds))
                )
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )

    def key(self, client: str) -> str:
        if client not in self._keys:
            self._keys[client] = subprocess.run(
                [
                    *(sys.executable, "manage.py", "api_key", "create"),
                    *("--client", client, "--quiet"),
                ],
                cwd=CHECKOUT,
                env=self.stack.variables(),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        return self._keys[client]

    def call(self, method: str, path: str, body: Any = None, *, client: str = "shop") -> Any:
        """What the API answers; None while it can't."""
        try:
            answer = self._http.request(
                method,
                f"http://127.0.0.1:{self.stack.environment.web_port}/api/v1{path}",
                body=None if body is None else json.dumps(body),
                headers={
                    "Authorization": f"Bearer {self.key(client)}",
                    "Content-Type": "application/json",
                },
            )
        except urllib3.exceptions.HTTPError:
            return None
        assert answer.status < 500 or answer.status == 503, answer.data
        assert answer.status < 400 or answer.status == 503, answer.data
        return None if answer.status == 503 else answer.json()

    def script(self, rules: list[dict[str, Any]]) -> None:
        answer = self._http.request(
            "PUT", f"{self.stack.environment.sandbox_url}/behaviours", body=json.dumps(rules)
        )
        assert answer.status == 200

    def executions(self, reference: str) -> list[dict[str, Any]]:
        url = f"{self.stack.environment.sandbox_url}/ledger/executions"
        answer = self._http.request("GET", f"{url}?order={reference}&limit=1000")
        rows: list[dict[str, Any]] = answer.json()["executions"]
        return rows

    def submit(self, sample: str, **changes: Any) -> str:
        body = shipped.sample(sample, **changes)
        (answer,) = self.call("POST", "/orders", {"orders": [body]})["results"]
        return str(answer["order"]["id"])

    def orders(self, client: str = "shop") -> dict[str, dict[str, Any]]:
        """By external id."""
        answer = self.call("GET", "/orders?limit=200", client=client)
        return {order["external_id"]: order for order in (answer or {"orders": []})["orders"]}

    def until_completed(self, *external_ids: str, client: str = "shop") -> None:
        def completed() -> bool:
            self.stack.watch()
            orders = self.orders(client)
            return all(orders.get(one, {}).get("state") == "COMPLETED" for one in external_ids)

        try:
            until(completed, seconds=60)
        except pytest.fail.Exception:
            orders = self.orders(client)
            open_ones = {
                one: self.call("GET", f"/orders/{orders[one]['id']}", client=client)
                for one in external_ids
                if orders.get(one, {}).get("state") != "COMPLETED"
            }
            pytest.fail(json.dumps(open_ones, indent=1)[:6000])

    def decide(self, order: str, task: str, outcome: str, **values: Any) -> None:
        """Wait until a person is asked, and decide."""
        found: list[int] = []

        def asked() -> bool:
            answer = self.call("GET", "/manual-tasks?state=OPEN&limit=200")
            rows = (answer or {"manual_tasks": []})["manual_tasks"]
            found[:] = [one["id"] for one in rows if (one["order"], one["task"]) == (order, task)]
            return bool(found)

        until(asked, seconds=30)
        body = {"outcome": outcome, "values": values, "reason": "a test"}
        assert self.call("POST", f"/manual-tasks/{found[0]}/decision", body) is not None


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, stack_model: Layout) -> Iterator[Shop]:
    with (
        home_in(tmp_path_factory.mktemp("shipped")) as home,
        servers_like(stack_model, home=home) as stack,
    ):
        shop = Shop(stack)
        shop.set_clock(MORNING)
        stack.start(without=("flower",))
        stack.wait_ready()
        yield shop


def test_every_shipped_workflow_completes_on_the_stack(shop: Shop) -> None:
    shop.script(TROUBLE)
    references = {
        sample: shop.submit(sample)
        for sample in (
            *("payment-pipeline/card", "customer-data-etl/daily", "user-registration/web"),
            *("purchase-approval/small", "purchase-approval/large", "product-return/small"),
            *("transfer-risk/medium", "prior-authorisation/experimental", "support-case/vip"),
        )
    }
    # One milestone is reported before anybody can wait for it, the other one afterwards.
    dates = {"requested_at": "2030-07-15T08:00:00Z", "promised_at": "2030-07-30T16:00:00Z"}
    line = shop.submit("broadband/own-device", **dates)
    slot = {"slot": "2030-07-16T09:30:00+02:00"}
    event = {"name": "appointment_confirmed", "event_id": "a-1", "payload": slot}
    shop.call("POST", f"/orders/{line}/milestones", event)
    goods = {"name": "goods_received", "event_id": "g-1", "payload": {"condition": "as_new"}}
    back = references["product-return/small"]
    until(lambda: _waits(shop, back, "receive_goods@1"), seconds=30)
    shop.call("POST", f"/orders/{back}/milestones", goods)

    large = references["purchase-approval/large"]
    shop.decide(large, "approval/manager_approval@1", "approved")
    shop.decide(large, "approval/finance_review@1", "approved", cost_centre="4711")
    treatment = references["prior-authorisation/experimental"]
    for task in ("medical_director@1", "insurance_review@1", "compliance_review@1"):
        shop.decide(treatment, task, "agreed")
    vip = references["support-case/vip"]
    shop.decide(vip, "senior_support@1", "solved", resolution="It is up again.")

    samples = [*references, "broadband/own-device"]
    shop.until_completed(*(shipped.sample(one)["external_id"] for one in samples))
    for reference in (*references.values(), line):
        effects = Counter(row["idempotency_key"] for row in shop.executions(reference))
        assert effects
        assert set(effects.values()) == {1}
    gateways = [
        row["target"]
        for row in shop.executions(references["payment-pipeline/card"])
        if row["action"] in ("authorise", "capture")
    ]
    assert gateways == ["payment-backup", "payment-backup"]
    enriched = [
        row
        for row in shop.executions(references["customer-data-etl/daily"])
        if row["action"] == "enrich_partition"
    ]
    assert len(enriched) == 9


def test_beat_submits_the_jobs_of_the_day_and_the_report_waits_for_its_data(shop: Shop) -> None:
    refresh, report = "data-refresh-2030-07-16", "daily-report-2030-07-16"
    shop.until_completed(refresh, report, client="schedules")
    orders = shop.orders("schedules")
    assert set(orders) == {refresh, report}
    last = max(row["executed_at"] for row in shop.executions(orders[refresh]["id"]))
    first = min(row["executed_at"] for row in shop.executions(orders[report]["id"]))
    assert last <= first


def test_overnight_deadlines_pass_and_the_maintenance_window_opens(shop: Shop) -> None:
    support = shop.submit("support-case/simple")
    until(lambda: _waits(shop, support, "tier_1@1"), seconds=30)
    shop.set_clock(NIGHT)
    # Nobody at the first desk has decided in time: the specialist is asked.
    shop.decide(support, "specialist_after_tier_1/solve@1", "solved", resolution="Fixed.")
    shop.until_completed(shipped.sample("support-case/simple")["external_id"])
    shop.until_completed("nightly-backup-2030-07-16", client="schedules")


def _waits(shop: Shop, reference: str, task: str) -> bool:
    """Whether the order says that this task of it waits."""
    order = shop.call("GET", f"/orders/{reference}") or {}
    return task in json.dumps(order.get("waiting", ""))
