"""What the nemesis can do. Each strike is a generator: it yields how many seconds to wait.

What runs before the first `yield` begins it; after the last one it is over, and whatever it
broke is whole again. `finally` sees to that when a run ends early.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import redis
import urllib3

from oms.embedded import postgres
from oms.embedded import redis as embedded_redis
from oms.supervisor.processes import Child
from oms.supervisor.programs import programs
from tests.chaos import misbehaviour
from tests.chaos.proxy import Proxy
from tests.chaos.shop import ChaosStack, in_a_hurry, shipped
from tests.desk import by
from tests.waiting import until

Dice = random.Random
Waiting = Iterator[float]


@dataclass(slots=True)
class World:
    """What a strike may get its hands on."""

    stack: ChaosStack
    proxy: Proxy
    script: Callable[[misbehaviour.Rules], None]
    watching: bool = True
    """Whether what has died is started again."""
    migrations: Counter[str] = field(default_factory=Counter)
    """Orders by what became of them when they were to be migrated."""

    def workers(self) -> list[str]:
        return [name for name in self.stack.names if name.startswith("worker-")]

    def redis(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.stack.layout.redis_socket), socket_timeout=3)

    def pid(self, name: str) -> int:
        """Of one process; 0 while it is not there."""
        return self.stack.pid(name) or 0


Strike = Callable[[World, Dice], Waiting]


def _killed(name: str) -> Strike:
    def strike(world: World, dice: Dice) -> Waiting:
        world.stack.kill(name)
        yield 1.0

    return strike


def kill_a_worker(world: World, dice: Dice) -> Waiting:
    world.stack.kill(dice.choice(world.workers()))
    yield 1.0


def kill_all_workers(world: World, dice: Dice) -> Waiting:
    for name in world.workers():
        world.stack.kill(name)
    yield 2.0


def stop_a_worker_for_a_while(world: World, dice: Dice) -> Waiting:
    """It wakes up past its leases, and must not send what others have taken over."""
    yield from _asleep(world.pid(dice.choice(world.workers())), dice.uniform(3, 25))


def stop_beat(world: World, dice: Dice) -> Waiting:
    yield from _asleep(world.pid("beat"), dice.uniform(5, 15))


def _asleep(pid: int, seconds: float) -> Waiting:
    if not pid:
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        yield seconds
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def two_beats(world: World, dice: Dice) -> Waiting:
    yield from _another_beat(world, dice.uniform(5, 12), shift=0)


def a_beat_with_a_wrong_clock(world: World, dice: Dice) -> Waiting:
    """An hour wrong, and alone: its messages are born expired, or live an hour too long."""
    beat = world.pid("beat")
    if not beat:
        return
    os.kill(beat, signal.SIGSTOP)
    try:
        yield from _another_beat(world, dice.uniform(6, 12), shift=dice.choice((-3600, 3600)))
    finally:
        with suppress(ProcessLookupError):
            os.kill(beat, signal.SIGCONT)


def _another_beat(world: World, seconds: float, *, shift: int) -> Waiting:
    stack = world.stack
    (beat,) = (p for p in programs(stack.environment, home=stack.layout) if p.name == "beat")
    schedule = stack.layout.run / f"beat-2-{time.monotonic_ns()}"
    program = replace(
        beat,
        name="beat-2",
        preloaded=False,
        variables=stack.variables(),
        command=[
            *(sys.executable, "-m", "tests.chaos.shifted", str(shift), *beat.command[1:]),
            *("--schedule", str(schedule)),
        ],
    )
    child = Child(program, logs=stack.layout.logs, records=stack.layout.run, launch=stack._launch)
    child.start()
    try:
        yield seconds
    finally:
        child.signal(signal.SIGKILL)
        child.end(deadline=time.monotonic() + 2)
        for file in stack.layout.run.glob(f"{schedule.name}*"):
            file.unlink()


# --- Redis ------------------------------------------------------------------------------------


def kill_redis(world: World, dice: Dice) -> Waiting:
    pid = embedded_redis.running_pid(world.stack.layout)
    yield from _down(world, dice.uniform(0, 6), lambda: pid and os.kill(pid, signal.SIGKILL))


def restart_redis(world: World, dice: Dice) -> Waiting:
    layout = world.stack.layout
    yield from _down(world, 0.0, lambda: embedded_redis.stop(layout))


def stop_redis_for_a_while(world: World, dice: Dice) -> Waiting:
    pid = embedded_redis.running_pid(world.stack.layout)
    yield from _asleep(pid or 0, dice.uniform(2, 12))


def flush_redis(world: World, dice: Dice) -> Waiting:
    with suppress(redis.RedisError):
        world.redis().flushall()
    yield 0.5


def fill_redis(world: World, dice: Dice) -> Waiting:
    """Every write is refused."""
    with suppress(redis.RedisError):
        world.redis().config_set("maxmemory", 1)
    try:
        yield dice.uniform(4, 12)
    finally:
        with suppress(redis.RedisError):
            world.redis().config_set("maxmemory", 0)


def repeat_and_shuffle_messages(world: World, dice: Dice) -> Waiting:
    """Each kind of message two to five times at once in any order, again and again."""
    from oms.celery import app

    hints = [
        (
            "fulfillment.tasks.run_commands",
            name.removeprefix("worker-"),
            name.removeprefix("worker-"),
        )
        for name in world.workers()
    ]
    ticks = [(entry["task"], "orchestration", "") for entry in app.conf.beat_schedule.values()]
    for _ in range(dice.randint(4, 10)):
        messages = [m for m in [*hints, *ticks] for _ in range(dice.randint(2, 5))]
        dice.shuffle(messages)
        with suppress(Exception):  # Redis may be away at the moment; that is another strike.
            for task, queue, target in messages:
                app.send_task(task, kwargs={"target": target} if target else {}, queue=queue)
        yield 0.7


# --- PostgreSQL -------------------------------------------------------------------------------


def restart_postgres(world: World, dice: Dice) -> Waiting:
    layout = world.stack.layout
    yield from _down(world, dice.uniform(0, 4), lambda: postgres.stop(layout))


def kill_postgres(world: World, dice: Dice) -> Waiting:
    pid = postgres.running_pid(world.stack.layout)
    yield from _down(world, 0.0, lambda: pid and os.kill(pid, signal.SIGKILL))


def _down(world: World, seconds: float, end: Callable[[], Any]) -> Waiting:
    world.watching = False
    try:
        end()
        yield seconds
    finally:
        world.watching = True
    yield 1.0


def make_postgres_read_only(world: World, dice: Dice) -> Waiting:
    _reload(world, "ALTER SYSTEM SET default_transaction_read_only = on")
    try:
        yield dice.uniform(4, 12)
    finally:
        _reload(world, "ALTER SYSTEM RESET default_transaction_read_only")


def _reload(world: World, statement: str) -> None:
    with world.stack.superuser() as connection:
        connection.execute(statement)
        connection.execute("SELECT pg_reload_conf()")


def terminate_backends(world: World, dice: Dice) -> Waiting:
    for _ in range(dice.randint(1, 6)):
        with suppress(psycopg.Error):
            world.stack.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'oms_app' AND pid <> pg_backend_pid()"
            )
        yield dice.uniform(0.1, 1)


def exhaust_connections(world: World, dice: Dice) -> Waiting:
    taken: list[psycopg.Connection[Any]] = []
    try:
        with suppress(psycopg.Error):
            while len(taken) < 300:
                taken.append(
                    psycopg.connect(
                        world.stack.layout.database_url(user="oms_app"), connect_timeout=2
                    )
                )
        yield dice.uniform(4, 10)
    finally:
        for connection in taken:
            connection.close()


def lose_replies_to_commits(world: World, dice: Dice) -> Waiting:
    world.proxy.cut_at_commit(times=dice.randint(3, 20), skip=dice.randint(0, 5))
    try:
        yield dice.uniform(2, 6)
    finally:
        world.proxy.cut_at_commit(times=0)


def lose_commits(world: World, dice: Dice) -> Waiting:
    world.proxy.cut_at_commit(times=dice.randint(3, 20), delivered=False)
    try:
        yield dice.uniform(2, 6)
    finally:
        world.proxy.cut_at_commit(times=0)


def cut_all_connections(world: World, dice: Dice) -> Waiting:
    for _ in range(dice.randint(1, 4)):
        world.proxy.cut_all()
        yield dice.uniform(0.2, 1.5)


def slow_wire(world: World, dice: Dice) -> Waiting:
    world.proxy.delay(dice.uniform(0.01, 0.06))
    try:
        yield dice.uniform(4, 10)
    finally:
        world.proxy.delay(0)


def black_hole(world: World, dice: Dice) -> Waiting:
    world.proxy.blackhole(True)
    try:
        yield dice.uniform(2, 8)
    finally:
        world.proxy.blackhole(False)


def refuse_connections(world: World, dice: Dice) -> Waiting:
    world.proxy.refuse(True)
    world.proxy.cut_all()
    try:
        yield dice.uniform(2, 8)
    finally:
        world.proxy.refuse(False)


# --- target systems, operators, strangers -----------------------------------------------------


def storm_at_a_target(world: World, dice: Dice) -> Waiting:
    target = dice.choice(("inventory", "provisioning", "billing", "payment", "logistics", "crm"))
    world.script(misbehaviour.storm(target=target, kind=dice.choice(misbehaviour.STORMS)))
    try:
        yield dice.uniform(5, 15)
    finally:
        world.script(misbehaviour.usual())


def all_targets_away(world: World, dice: Dice) -> Waiting:
    """Whatever they had done is in their books; callbacks that wait are sent afterwards."""
    world.stack.kill("sandbox")
    world.watching = False
    try:
        yield dice.uniform(1, 8)
    finally:
        world.watching = True
    yield 2.0


def deploy(world: World, dice: Dice) -> Waiting:
    """Every process is ended in good order and started again, one after the other."""
    for name in world.stack.names:
        if name != "sandbox":
            world.stack.restart(name)
            yield 0.2


def hold_and_release(world: World, dice: Dice) -> Waiting:
    """Places a hold at random; the checker sees whether anything was sent in the meantime."""
    from fulfillment import operations
    from fulfillment.models import Hold, HoldScope, Task

    waiting = Task.objects.filter(state__in=("READY", "PENDING")).select_related("fulfillment")
    task = _certainly(lambda: waiting.order_by("?").first())
    if task is None:
        return
    order = task.fulfillment.order_reference
    scope, name = dice.choice(
        (
            (HoldScope.ORDER, order),
            (HoldScope.TASK, str(task.pk)),
            (HoldScope.PLAN, str(task.plan_id)),
            (HoldScope.ITEM, f"{order}/1"),
            (HoldScope.TARGET, task.target_id),
            (HoldScope.CUSTOMER, task.fulfillment.customer),
        )
    )
    try:
        yield from _elsewhere(
            lambda: operations.place_hold(scope=scope, name=name, reason="chaos", actor=by("chaos"))
        )
        yield dice.uniform(3, 10)
    finally:
        # Also one that was placed although its operator did not hear of it.
        placed = Hold.objects.filter(placed_by="chaos", released_at=None)
        for hold_id in _certainly(lambda: list(placed.values_list("pk", flat=True))):
            _certainly(
                partial(operations.release_hold, hold_id=hold_id, reason="over", actor=by("chaos"))
            )


def pause_and_resume(world: World, dice: Dice) -> Waiting:
    from fulfillment import operations

    target = dice.choice(("inventory", "provisioning", "billing", "payment", "logistics", "crm"))
    try:
        yield from _elsewhere(
            lambda: operations.pause_target(target=target, reason="chaos", actor=by("chaos"))
        )
        yield dice.uniform(3, 10)
    finally:
        _certainly(
            lambda: operations.resume_target(target=target, reason="chaos", actor=by("chaos"))
        )


def migrate(world: World, dice: Dice) -> Waiting:
    """Publishes another version of some workflows, and moves whoever is on the way to it."""
    for path in dice.sample(sorted(shipped()), 6):
        yield from _elsewhere(partial(_certainly, partial(_migrate, world, path)))


def _migrate(world: World, path: Path) -> None:
    from fulfillment import operations
    from fulfillment.definitions.loading import load_workflow
    from fulfillment.models import WorkflowVersion
    from fulfillment.publishing import publish

    name = path.parent.name
    versions = WorkflowVersion.objects.filter(name=name).values_list("version", flat=True)
    folder = world.stack.layout.home / "chaos"
    edition = in_a_hurry(path, folder, version=max(versions) + 1)
    publish(definition=load_workflow(path=edition), published_by="chaos")
    for migration in operations.migrate_orders(
        workflow=name, version=None, orders=None, reason="chaos", actor=by("chaos")
    ):
        world.migrations[str(migration.verdict)] += 1
        broken = [why for why in migration.reasons if why.startswith("It failed")]
        assert not broken, f"{migration.order_reference}: {broken}"


def _certainly(work: Callable[[], Any]) -> Any:
    """The operator tries again when an earlier strike has cut the connection."""
    from django.db import InterfaceError, OperationalError, connection

    answers: list[Any] = []

    def answered() -> bool:
        try:
            answers.append(work())
        except (OperationalError, InterfaceError):
            connection.close()
        return bool(answers)

    until(answered, seconds=60, pause_seconds=0.5)
    return answers[0]


def _elsewhere(work: Callable[[], Any]) -> Any:
    """In a thread: placing waits for what is on the wire, and the stack must be watched."""
    from django.db import connection

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(run)
        while not begun.done():
            yield 0.1
        return begun.result()


def forge_reports(world: World, dice: Dice) -> Waiting:
    """Strangers who know real keys and no secret: nothing that they say may move a task."""
    keys = world.stack.rows(
        "SELECT c.idempotency_key AS key, c.target_id AS target FROM fulfillment_command c "
        "JOIN fulfillment_task t ON t.id = c.task_id WHERE t.state NOT IN ('SUCCEEDED') LIMIT 20"
    )
    http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(5))
    web = f"http://127.0.0.1:{world.stack.environment.web_port}"
    for number, row in enumerate(keys):
        body = {"event_id": f"forged-{number}", "idempotency_key": row["key"], "status": "rejected"}
        for headers in (
            {},
            {
                "webhook-id": f"forged-{number}",
                "webhook-timestamp": str(int(time.time())),
                "webhook-signature": "v1,AAAA",
            },
        ):
            with suppress(urllib3.exceptions.HTTPError):
                answer = http.request(
                    "POST", f"{web}/api/v1/callbacks/{row['target']}", json=body, headers=headers
                )
                if answer.status < 400:
                    raise AssertionError(f"A forged report was taken: {answer.status}.")
    yield 0.1


BOUNDARY: Mapping[str, Strike] = {
    "kill web": _killed("web"),
    "kill orchestration": _killed("orchestration"),
    "kill beat": _killed("beat"),
    "kill a worker": kill_a_worker,
    "kill all workers": kill_all_workers,
    "stop a worker for a while": stop_a_worker_for_a_while,
    "stop beat for a while": stop_beat,
    "two beats": two_beats,
    "a beat with a wrong clock": a_beat_with_a_wrong_clock,
    "kill Redis": kill_redis,
    "restart Redis": restart_redis,
    "stop Redis for a while": stop_redis_for_a_while,
    "flush Redis": flush_redis,
    "fill Redis": fill_redis,
    "repeat and shuffle messages": repeat_and_shuffle_messages,
    "restart PostgreSQL": restart_postgres,
    "kill PostgreSQL": kill_postgres,
    "make PostgreSQL read-only": make_postgres_read_only,
    "terminate backends": terminate_backends,
    "exhaust connections": exhaust_connections,
    "lose replies to commits": lose_replies_to_commits,
    "lose commits": lose_commits,
    "cut all connections": cut_all_connections,
    "slow wire": slow_wire,
    "black hole": black_hole,
    "refuse connections": refuse_connections,
    "storm at a target": storm_at_a_target,
    "all targets away": all_targets_away,
    "deployment": deploy,
    "hold and release": hold_and_release,
    "pause and resume": pause_and_resume,
    "forge reports": forge_reports,
    "migrate orders in flight": migrate,
}
PROFILES: Mapping[str, Mapping[str, Strike]] = {
    "boundary": BOUNDARY,
    "processes": {
        name: s for name, s in BOUNDARY.items() if name.startswith(("kill", "stop", "dep"))
    },
    "undo": {
        name: s
        for name, s in BOUNDARY.items()
        if name.startswith(("kill", "stop", "dep", "lose", "terminate", "hold", "all"))
    },
    "calm": {},
}
"""Which strikes a run draws from."""
UNDO = "undo"
"""The profile in which orders are cancelled and amended as well."""
