"""One loop for all threads: nothing that is asked for or has arrived is forgotten."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fulfillment.engine.store.one_loop import OneLoop
from tests.waiting import until


class Work:
    """Numbers that somebody else hands back; `begin` starts all that are waiting."""

    def __init__(self, *waiting: int) -> None:
        self.waiting = list(waiting)
        self.begun: list[int] = []
        self.ended: list[list[int]] = []
        self.fails = False
        self.loop = OneLoop[int](name="work", begin=self.begin, end=self.end)

    def begin(self) -> None:
        if self.fails:
            raise RuntimeError("nothing can be begun")
        while self.waiting:
            self.begun.append(self.waiting.pop(0))
            self.loop.begun()

    def end(self, results: list[int]) -> int:
        self.ended.append(results)
        return len(results)


def test_what_arrives_meanwhile_is_ended_together() -> None:
    work = Work(1, 2, 3)
    for number in (1, 2, 3):
        work.loop.arrived(number)
    assert work.loop.run() == 3
    assert work.ended == [[1, 2, 3]]


def test_whoever_finds_the_loop_running_lets_it_look_again_and_goes() -> None:
    work = Work(1)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work.loop.run)
        until(lambda: work.begun == [1])
        work.waiting.append(2)
        assert work.loop.run() == 0
        until(lambda: work.begun == [1, 2])
        assert not running.done()
        work.loop.arrived(2)
        work.loop.arrived(1)
        assert running.result(timeout=30) == 2


def test_what_is_under_way_is_ended_although_nothing_more_can_be_begun() -> None:
    work = Work(1)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(work.loop.run)
        until(lambda: work.begun == [1])
        work.fails = True
        work.loop.run()
        assert work.loop.under_way == 1
        work.loop.arrived(1)
        with pytest.raises(RuntimeError, match="nothing can be begun"):
            running.result(timeout=30)
    assert work.ended == [[1]]
    assert work.loop.under_way == 0


def test_no_poke_is_lost_among_many_threads() -> None:
    seen: list[int] = []
    asked: set[int] = set()
    loop = OneLoop[int](name="x", begin=lambda: seen.append(len(asked)), end=len)

    def ask(number: int) -> None:
        asked.add(number)
        loop.run()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen[-1] == 50
