"""Processes that die at any moment by chance, and wires that are cut at the worst one."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fulfillment.engine.store import failpoints
from fulfillment.models import (
    Attempt,
    Task,
)
from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT
from oms.models import ApiClient, Order
from tests.chaos.proxy import Proxy
from tests.conftest import ENVIRONMENT
from tests.crash import desk_worker
from tests.crash.conftest import Desk
from tests.waiting import until

_BY_CHANCE = [
    name
    for name in failpoints.POINTS
    if name.startswith(("unit.", "sending.", "settlement.", "scanning.", "sweeping.", "feas"))
]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_processes_may_die_at_random(shop: Desk, seed: int) -> None:
    """Whoever takes the orders in and all who work on them, each with a chance of 5 % at one
    failpoint, whenever it comes by there."""
    dice = random.Random(seed)
    ends: list[int] = []

    def process(*arguments: str) -> int:
        chance = f"{dice.choice(_BY_CHANCE)}%5:{seed}"
        done = shop.child(*arguments, failpoint=chance, OMS_FAILPOINTS_RUN=str(len(ends)))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        ends.append(done.returncode)
        return done.returncode

    def everything_is_done() -> bool:
        process("work")
        shop.later(60)
        return desk_worker.unfinished() == 0

    until(lambda: process("submit") == 0)
    until(everything_is_done, seconds=400)
    assert -signal.SIGKILL in ends
    shop.nothing_is_lost_or_done_twice()


@pytest.mark.parametrize("number", [0, 3, 6, 9, 12])
def test_a_commit_whose_reply_is_lost_is_done_once(shop: Desk, tmp_path: Path, number: int) -> None:
    """The connection is cut when PostgreSQL has committed and before the worker hears of it."""
    with wire(tmp_path) as proxy:
        through = {"DATABASE_URL": proxy.url(shop.url)}
        ApiClient.objects.create(name="a-client")
        proxy.cut_at_commit()
        assert shop.child("submit", **through).returncode == 0
        assert proxy.cuts == 1
        assert Order.objects.count() == 7
        proxy.cut_at_commit(skip=number)
        shop.child("work", **through)
        assert proxy.cuts == 2
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


@contextmanager
def wire(folder: Path) -> Iterator[Proxy]:
    if not ENVIRONMENT.embedded_database:
        pytest.skip("The wire goes between sockets of this machine.")
    proxy = Proxy(folder=folder / "wire", upstream=layout_of(ENVIRONMENT.home).sockets)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def test_a_request_whose_sender_died_before_the_reply_is_done_once(shop: Desk) -> None:
    """Between the last byte of a request and the first of its reply no code of ours runs."""
    desk_worker.submit()
    shop.stops_before("payment")
    shop.sandbox.script(
        {"match": {"target": "payment"}, "behaviour": {"kind": "succeed_then_timeout"}}
    )
    done = Task.objects.filter(target_id="payment").values_list(
        "commands__idempotency_key", flat=True
    )
    keys = [key for key in done if key]
    with shop.background("work", "payment") as worker:
        until(lambda: sum(shop.sandbox.executed(key) for key in keys) > 0)
        worker.kill()
    assert Attempt.objects.filter(finished_at=None, task__target_id="payment").exists()
    shop.sandbox.script()
    shop.finish()
    shop.nothing_is_lost_or_done_twice()


def test_every_failpoint_in_the_code_is_tried_here() -> None:
    placed = {
        name
        for package in ("oms", "fulfillment")
        for file in (CHECKOUT / package).rglob("*.py")
        for name in re.findall(r'failpoints\.reach\(\s*"([^"]+)"', file.read_text())
    }
    tests = "".join(file.read_text() for file in (CHECKOUT / "tests").rglob("test_*.py"))
    assert {name for name in placed if name not in tests} == set()
