"""Failpoints: what arms them, and that every place in the code has a name in the list."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from fulfillment.engine.store import failpoints
from oms.environment import CHECKOUT

POINT = "unit.before_commit"


def passes(text: str, *, run: str = "1", name: str = POINT, number: int = 400) -> list[bool]:
    """At which of so many passes it would have died."""
    point = failpoints.parse(text, run=run)[name]
    return [point.strikes() for _ in range(number)]


@pytest.mark.parametrize(("text", "deadly"), [(POINT, 1), (f"{POINT}@3", 3)])
def test_a_counted_failpoint_strikes_at_its_pass_alone(text: str, deadly: int) -> None:
    assert [number for number, dead in enumerate(passes(text), 1) if dead] == [deadly]


def test_chance_strikes_as_often_as_it_says() -> None:
    struck = sum(passes(f"{POINT}%5:seed", number=4000))
    assert 140 < struck < 260


def test_the_same_seed_and_run_strike_at_the_same_passes() -> None:
    assert passes(f"{POINT}%5:7", run="3") == passes(f"{POINT}%5:7", run="3")


@pytest.mark.parametrize("other", [{"run": "4"}, {"text": f"{POINT}%5:8"}])
def test_another_run_or_seed_strikes_elsewhere(other: dict[str, str]) -> None:
    first = {"text": f"{POINT}%5:7", "run": "3"}
    assert passes(**first) != passes(**{**first, **other})  # type: ignore[arg-type]


def test_several_stand_side_by_side() -> None:
    armed = failpoints.parse(f"{POINT}@2, sending.after_send%0.5:s", run="1")
    assert set(armed) == {POINT, "sending.after_send"}
    assert failpoints.parse("", run="1") == {}


@pytest.mark.parametrize("text", ["unit.before_comit", f"{POINT}@0", f"{POINT}%5", f"{POINT}%x:1"])
def test_what_can_not_be_armed_is_an_error(text: str) -> None:
    with pytest.raises(failpoints.FailpointInvalid, match="OMS_FAILPOINTS"):
        failpoints.parse(text, run="1")


def process(points: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"from fulfillment.engine.store.failpoints import reach\n{code}"],
        cwd=CHECKOUT,
        env={**os.environ, "OMS_FAILPOINTS": points},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_dies_as_if_the_power_had_failed() -> None:
    twice = f"reach({POINT!r}); print('first', flush=True); reach({POINT!r}); print('second')"
    done = process(f"{POINT}@2", twice)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "first\n")
    assert process("", twice).stdout.split() == ["first", "second"]


def test_a_name_that_does_not_exist_keeps_a_process_from_starting() -> None:
    done = process("no.such_point", "print('started')")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no.such_point" in done.stderr


def test_forks_throw_dice_of_their_own() -> None:
    forks = """
import os, sys
from fulfillment.engine.store import failpoints
for _ in range(4):
    if os.fork() == 0:
        dice = failpoints._armed["unit.before_commit"].dice
        os.write(1, f"{dice.random()}\\n".encode()); os._exit(0)
    os.wait()
"""
    thrown = process(f"{POINT}%5:seed", forks).stdout.split()
    assert len(set(thrown)) == len(thrown) == 4


def test_every_place_in_the_code_is_in_the_list() -> None:
    placed = {
        name
        for package in ("oms", "fulfillment")
        for file in (CHECKOUT / package).rglob("*.py")
        for name in re.findall(r'failpoints\.reach\(\s*"([^"]+)"', file.read_text())
    }

    assert placed == set(failpoints.POINTS)
    assert all(map(str.strip, failpoints.POINTS.values()))
