"""The nemesis: what a seed repeats, and that what it breaks is made whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.chaos.nemesis import Nemesis
from tests.chaos.recovery import percentile
from tests.chaos.shop import LANGUAGE, batch, in_a_hurry, shipped
from tests.chaos.strikes import PROFILES, Dice, Strike, World
from tests.waiting import until


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def strike(self, name: str, *, waits: int = 0, error: Exception | None = None) -> Strike:
        def made(world: World, dice: Dice) -> Iterator[float]:
            self.lines.append(f"{name} begins {dice.random():.6f}")
            try:
                for _ in range(waits):
                    yield 0.0
                if error is not None:
                    raise error
            finally:
                self.lines.append(f"{name} is over")

        return made


def nemesis(strikes: dict[str, Strike], *, seed: int = 1) -> Nemesis:
    return Nemesis(
        world=cast(World, None), strikes=strikes, pauses=(0, 0), seed=seed, say=lambda _: None
    )


def run(seed: int, count: int) -> list[str]:
    log = Log()
    one = nemesis({name: log.strike(name, waits=2) for name in "abcdef"}, seed=seed)
    until(lambda: one.tick() is None and len(one.struck) == count, pause_seconds=0)
    one.end()
    return log.lines


def test_a_seed_repeats_the_strikes_and_their_dice() -> None:
    assert run(3, 15) == run(3, 15)
    assert run(3, 15) != run(4, 15)


def test_each_strike_comes_once_before_one_comes_again() -> None:
    begun = [line[0] for line in run(5, 12) if "begins" in line]
    assert sorted(begun[:6]) == sorted(begun[6:]) == list("abcdef")


def test_a_strike_that_is_cut_short_makes_whole_what_it_broke() -> None:
    log = Log()
    one = nemesis({"long": log.strike("long", waits=10**6)})
    until(lambda: one.tick() is None and bool(log.lines))
    one.end()
    assert log.lines[-1] == "long is over"
    assert one.struck[0].ended is not None


def test_a_strike_that_fails_is_told_and_the_next_one_comes() -> None:
    log = Log()
    one = nemesis({"bad": log.strike("bad", waits=1, error=AssertionError("it was taken"))})
    until(lambda: one.tick() is None and len(one.struck) == 2)
    assert one.struck[0].trouble == "AssertionError: it was taken"


def test_without_strikes_it_stays_quiet() -> None:
    one = nemesis(dict(PROFILES["calm"]))
    one.tick()
    assert one.struck == []


@pytest.mark.parametrize(
    ("values", "half", "most"), [([], 0, 0), ([2.0], 2, 2), ([1, 2, 3, 4, 5], 3, 4.96)]
)
def test_percentiles(values: list[float], half: float, most: float) -> None:
    assert percentile(values, 50) == half
    assert percentile(values, 99) == pytest.approx(most)


@pytest.mark.parametrize("version", [1000, 1001])
def test_the_workflows_of_a_run_are_the_shipped_ones_in_a_hurry(
    tmp_path: Path, version: int
) -> None:
    from fulfillment.definitions.loading import load_workflow

    calls: set[float] = set()
    for path in shipped():
        before = load_workflow(path=path)
        hurried = load_workflow(path=in_a_hurry(path, tmp_path, version=version))
        tasks: Any = hurried.tasks
        noted = version % 2 and not hurried.subprocess
        assert set(tasks) == {*before.tasks, *(["note"] if noted else [])}
        assert hurried.version > before.version
        commands = [task for task in tasks.values() if hasattr(task, "timeouts")]
        calls |= {task.timeouts.call.total_seconds() for task in commands}
        assert not any(getattr(task, "window", None) for task in tasks.values())
    assert calls == {5}


def test_the_orders_of_a_run_are_of_every_kind_and_its_reports_have_their_data() -> None:
    bodies = batch(orders=80, more=LANGUAGE)
    names = {body["external_id"] for body in bodies}
    assert {body["items"][0]["offering"] for body in bodies} >= {
        *("broadband-fibre", "customer-data-etl", "daily-report", "data-refresh"),
        *("nightly-backup", "payment", "prior-authorisation", "product-return"),
        *("purchase-request", "retention-cleanup", "support-case", "transfer", "user-account"),
    }
    waited = [
        f"data-refresh-{body['items'][0]['characteristics']['date']}"
        for body in bodies
        if body["items"][0]["offering"] == "daily-report"
    ]
    assert waited
    assert set(waited) <= names
