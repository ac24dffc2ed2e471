"""A long run with faults: `make chaos ORDERS=… SECONDS=… SEED=… PROFILE=…`.

Starts a stack of its own, submits orders steadily, strikes every 5 to 20 seconds, lets
everything come to rest, and has the checker judge. The last line says it all; the exit code is 1
if any promise was broken.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from rich.console import Console
from rich.live import Live
from rich.text import Text

from oms.environment import CHECKOUT, read_environment
from oms.supervisor.stack import with_free_ports
from tests.chaos import checker, misbehaviour, rules_undo, shapes
from tests.chaos.changers import Changer
from tests.chaos.evidence import Violation, collected
from tests.chaos.nemesis import Nemesis
from tests.chaos.people import Decider, Reporter
from tests.chaos.proxy import Proxy
from tests.chaos.recovery import percentile, recoveries
from tests.chaos.shop import (
    CALL_SECONDS,
    LANGUAGE,
    ChaosStack,
    Submitter,
    batch,
    clear,
    furnish,
)
from tests.chaos.strikes import PROFILES, UNDO, World
from tests.chaos.subscriber import Subscriber
from tests.waiting import until

_LOOK_SECONDS = 0.1
_SHOW_SECONDS = 5.0
_CHECK_SECONDS = 30.0
RECOVERY_BOUND_SECONDS = (CALL_SECONDS + 10.0) + 2.0 + 60.0
"""The longest lease (call and margin), the sweep's interval, and slack for the next strike."""
_CHANGERS = 3
"""Clients who change their minds, in the undo profile."""
_MOST_MOVING = 150
"""Orders under way at which the client holds back."""
_OVER = "('COMPLETED', 'PARTIALLY_COMPLETED', 'CANCELLED', 'FAILED', 'REJECTED')"
_COUNTS = f"""
SELECT (SELECT count(*) FROM oms_order) AS orders,
       (SELECT count(*) FROM oms_order WHERE state IN {_OVER}) AS finished,
       (SELECT count(DISTINCT fulfillment_id) FROM fulfillment_falloutcase
        WHERE state = 'OPEN') AS in_hand,
       (SELECT count(*) FROM oms_order o WHERE state NOT IN {_OVER}
          AND NOT EXISTS (SELECT 1 FROM fulfillment_falloutcase k
                          WHERE k.fulfillment_id = o.fulfillment_id AND k.state = 'OPEN')
       ) AS moving,
       -- Of commands only: what waits for its time or for a person is nothing under way.
       (SELECT count(*) FROM fulfillment_task WHERE target_id <> '' AND state IN
        ('READY', 'DISPATCHED', 'ACCEPTED', 'FAILED_RETRYABLE', 'OUTCOME_UNKNOWN')) AS tasks,
       (SELECT count(*) FROM fulfillment_attempt WHERE finished_at IS NULL) AS calls,
       (SELECT count(*) FROM fulfillment_outboxevent WHERE published_at IS NULL) AS unsent,
       (SELECT count(*) FROM fulfillment_delivery WHERE state = 'PENDING') AS undelivered
"""


class Run:
    """One run, from an empty stack to the verdict."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self._options = options
        self._console = console
        home = read_environment().home
        self._subscriber = Subscriber(seed=options.seed)
        environment = replace(
            with_free_ports(
                read_environment({"OMS_HOME": str(home / "chaos"), "OMS_SCHEDULES": "off"})
            ),
            webhook_allowed_origins=(self._subscriber.origin,),
        )
        self._wire = Path(tempfile.mkdtemp(prefix="oms-wire-"))
        points = ""
        if options.failpoints:
            from fulfillment.engine.store.failpoints import POINTS

            points = ",".join(f"{name}%{options.failpoints:g}:{options.seed}" for name in POINTS)
        clear(environment)
        upstream = ChaosStack(
            environment,
            proxy=Proxy(folder=self._wire, upstream=Path()),
            failpoints="",
            say=lambda _: None,
        ).layout.sockets
        self._proxy = Proxy(folder=self._wire, upstream=upstream)
        self._proxy.start()
        self.stack = ChaosStack(
            environment, proxy=self._proxy, failpoints=points, say=lambda _: None
        )
        self._folder = self.stack.layout.home / "chaos"
        self._log = self._folder / "client.jsonl"
        self._undoes = options.profile == UNDO
        changes = [f"changes-{n}.jsonl" for n in range(_CHANGERS if self._undoes else 0)]
        self._people_logs = [
            self._folder / name for name in ("decisions.jsonl", "reports.jsonl", *changes)
        ]
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(5))
        self._checking: subprocess.Popen[str] | None = None
        self._next_check = time.monotonic() + _CHECK_SECONDS
        self._counts: dict[str, Any] = {}
        self.during: list[str] = []
        """What the checker said while the run went on."""
        self.checks = 0
        self._rested = False

    # --- the parts of a run ------------------------------------------------------------------

    def judge(self) -> int:
        """Everything. Returns the exit code."""
        options = self._options
        self._say(f"seed {options.seed}, profile {options.profile}: starting a stack …")
        try:
            self.stack.start_servers()
            key = furnish(self.stack, for_undo=self._undoes)
            self._become_an_operator()
            self.stack.start(without=("flower",))
            self.stack.wait_ready()
            self._script(shapes.behaviours() if self._undoes else misbehaviour.usual())
            self._submitter = Submitter(
                url=f"http://127.0.0.1:{self.stack.environment.web_port}",
                key=key,
                bodies=self._bodies(),
                seconds=options.seconds,
                log=self._log,
            )
            person = {
                "url": f"http://127.0.0.1:{self.stack.environment.web_port}",
                "key": key,
                "seed": options.seed,
            }
            self._changers = [
                Changer(
                    **{**person, "seed": f"{options.seed}/{number}"},
                    log=log,
                    orders=lambda: self._submitter.known,
                    number=number,
                    of=_CHANGERS,
                )
                for number, log in enumerate(self._people_logs[2:])
            ]
            self._people = (
                Decider(**person, log=self._people_logs[0]),
                Reporter(**person, log=self._people_logs[1], rows=self.stack.rows),
                *self._changers,
            )
            self._world = world = World(stack=self.stack, proxy=self._proxy, script=self._script)
            self._nemesis = Nemesis(
                world=world,
                strikes={
                    name: strike
                    for name, strike in PROFILES[options.profile].items()
                    if not options.only or name in options.only
                },
                pauses=tuple(options.every),
                seed=options.seed,
                say=self._say,
            )
            self._submitter.start()
            for one in self._people:
                one.start()
            with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
                self._strike(world)
                self._come_to_rest(world)
            self._submitter.stop()
            for one in self._people:
                one.stop()
                self._submitter.wrong.extend(one.wrong)
            return self._verdict()
        finally:
            self.stack.stop()
            self.stack.stop_servers()
            self._proxy.stop()
            self._subscriber.close()
            (self._wire / ".s.PGSQL.5432").unlink(missing_ok=True)
            self._wire.rmdir()

    def _bodies(self) -> list[dict[str, Any]]:
        options = self._options
        if self._undoes:
            return shapes.bodies(count=options.orders)
        return batch(orders=options.orders, more=LANGUAGE if options.workflows == "all" else ())

    def _become_an_operator(self) -> None:
        """This process places holds; it does so past the proxy."""
        os.environ.update(self.stack.straight())
        import django

        django.setup()
        from fulfillment import subscribers
        from fulfillment.authority.actors import engine

        subscribers.subscribe(name="chaos", url=self._subscriber.origin, actor=engine("chaos"))

    def _strike(self, world: World) -> None:
        ends_at = time.monotonic() + self._options.seconds

        def over() -> bool:
            self._nemesis.tick()
            self._look(world)
            return time.monotonic() >= ends_at

        until(over, seconds=math.inf, pause_seconds=_LOOK_SECONDS)
        self._nemesis.end()
        world.watching = True

    def _come_to_rest(self, world: World) -> None:
        """No more faults, until nothing moves; but not for ever."""
        self._say("no more faults; everything may come to rest now")
        before, gives_up_at = (-1, -1, -1), math.inf

        def settled() -> bool:
            nonlocal before, gives_up_at
            self._look(world)
            progress = (
                self._submitter.acknowledged,
                self._counts.get("finished", before[1]),
                self._counts.get("undelivered", before[2]),
            )
            if progress != before:
                before, gives_up_at = progress, time.monotonic() + self._options.patience
            self._rested = self._at_rest()
            return self._rested or time.monotonic() > gives_up_at

        until(settled, seconds=math.inf, pause_seconds=_LOOK_SECONDS)
        if self._checking is not None:
            self._checking.wait()
            self._hear_checker()

    def _look(self, world: World) -> None:
        if world.watching:
            try:
                self.stack.watch()
            except Exception as error:  # a server that does not start now is tried again
                self._say(f"  the supervisor: {type(error).__name__}: {str(error)[:200]}")
        self._check_meanwhile()
        self._show()

    def _at_rest(self) -> bool:
        try:
            (counts,) = self.stack.rows(_COUNTS)
        except psycopg.Error:
            return False
        self._counts = counts
        nothing = not any(
            counts[name] for name in ("moving", "tasks", "calls", "unsent", "undelivered")
        )
        return (
            nothing
            and self._submitter.done
            and all(one.is_idle for one in self._changers)
            and not self._callbacks_waiting()
        )

    def _callbacks_waiting(self) -> int:
        status = self._sandbox("GET", "/status")
        callbacks = (status or {}).get("callbacks", {})
        return int(callbacks.get("waiting", callbacks.get("open", 0)))

    # --- the checker -------------------------------------------------------------------------

    def _check_meanwhile(self) -> None:
        """What holds at every moment is looked at by a program of its own, now and then."""
        if self._checking is not None:
            if self._checking.poll() is not None:
                self._hear_checker()
        elif time.monotonic() > self._next_check:
            self._checking = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.chaos.checker", "--during"),
                    *("--database", self.stack.layout.database_url(user="postgres")),
                    *("--ledger", str(self.stack.ledger), "--log", str(self._log)),
                    *("--people", *map(str, self._people_logs)),
                ],
                cwd=CHECKOUT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda: os.nice(5) and None,
            )

    def _hear_checker(self) -> None:
        assert self._checking is not None
        output, errors = self._checking.communicate()
        if self._checking.returncode == 1 and "found:" in output:
            self.during += [output]
            self._say(output)
        elif self._checking.returncode == 0:
            self.checks += 1
        self._checking, self._next_check = None, time.monotonic() + _CHECK_SECONDS
        del errors  # No database at the moment: the next look will have one.

    def _verdict(self) -> int:
        with collected(
            database_url=self.stack.layout.database_url(user="postgres"),
            ledger=self.stack.ledger,
            client_log=self._log,
            people_logs=self._people_logs,
        ) as evidence:
            violations = checker.check(evidence) + list(self._subscriber.violations(evidence))
            times = recoveries(
                evidence.engine,
                ended_at=[
                    time.time() - (time.monotonic() - strike.ended)
                    for strike in self._nemesis.struck
                    if strike.ended is not None
                ],
            )
        for strike, seconds in zip(self._nemesis.struck, times, strict=False):
            if seconds > RECOVERY_BOUND_SECONDS:
                violations.append(
                    Violation(
                        rule="recovery",
                        text=f"{seconds:.1f} s after “{strike.name}” a task had not moved on.",
                    )
                )
        violations += [
            Violation(rule="wrong-answer", text=answer) for answer in self._submitter.wrong
        ]
        violations += [
            Violation(rule="strike-failed", text=f"{strike.name}: {strike.trouble}")
            for strike in self._nemesis.struck
            if strike.trouble.startswith("AssertionError")
        ]
        if not self._rested:
            told = ", ".join(f"{name} {n}" for name, n in self._counts.items())
            text = f"It never came to rest: {told}."
            violations.append(Violation(rule="restless", text=text))
        for violation in violations:
            self._console.print(str(violation), markup=False, highlight=False, soft_wrap=True)
        self._tell(times)
        found = checker.counted(violations)
        self._console.print(
            f"chaos: orders={self._submitter.acknowledged} faults={len(self._nemesis.struck)} "
            f"lost={found['lost']} duplicates={found['duplicates']} stuck={found['stuck']} "
            f"recovery_p50={percentile(times, 50):.1f}s recovery_p99={percentile(times, 99):.1f}s "
            f"seed={self._options.seed}"
            + (f" others={found['others']}" if found["others"] else "")
            + (f" orphans={rules_undo.orphans(violations)}" if self._undoes else ""),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return int(bool(violations or self.during))

    def _tell(self, times: list[float]) -> None:
        (counts,) = self.stack.rows(_COUNTS)
        by_name = Counter(strike.name for strike in self._nemesis.struck)
        worst = sorted(zip(times, self._nemesis.struck, strict=False), key=lambda p: -p[0])[:5]
        cases = self.stack.rows(
            "SELECT category, state, count(*) AS n FROM fulfillment_falloutcase "
            "GROUP BY category, state ORDER BY category, state"
        )
        lines = [
            f"orders in the engine {counts['orders']}, finished {counts['finished']}, in "
            f"somebody's hands {counts['in_hand']}; still moving {counts['moving']}",
            "decided and reported: "
            + ", ".join(str(one.done) for one in self._people)
            + "; migrated: "
            + (", ".join(f"{v} {n}" for v, n in sorted(self._world.migrations.items())) or "none"),
            f"sent again by the client {self._submitter.repeated}; commits cut {self._proxy.cuts}; "
            f"looks of the checker on the way {self.checks}",
            "cases: "
            + (", ".join(f"{c['category']} {c['state']} {c['n']}" for c in cases) or "none"),
            "slowest recoveries: " + ", ".join(f"{s:.1f} s ({k.name})" for s, k in worst),
            "strikes: " + ", ".join(f"{name} {n}" for name, n in sorted(by_name.items())),
        ]
        if self._undoes:
            answers = sum((one.answers for one in self._changers), Counter[str]())
            ends = self.stack.rows(
                "SELECT state, count(*) AS n FROM oms_order GROUP BY 1 ORDER BY 1"
            )
            lines += [
                "asked to cancel and to amend: "
                + ", ".join(f"{name} {n}" for name, n in sorted(answers.items())),
                "orders: " + ", ".join(f"{row['state']} {row['n']}" for row in ends),
            ]
        for line in lines:
            self._say(line)
        (self._folder / "strikes.json").write_text(
            json.dumps(
                [
                    {"name": k.name, "recovery": s}
                    for s, k in zip(times, self._nemesis.struck, strict=False)
                ]
            )
        )

    # --- what is seen ------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    _shown = 0.0
    _began = time.monotonic()

    def _show(self) -> None:
        if time.monotonic() - self._shown < (_SHOW_SECONDS if not self._console.is_terminal else 1):
            return
        self._shown = time.monotonic()
        try:
            (self._counts,) = self.stack.rows(_COUNTS)
        except psycopg.Error:
            self._counts = {}
        counts = self._counts
        # Recovery shall be measured, not the queue of a machine that is too slow for the pace.
        self._submitter.held_back = counts.get("moving", 0) >= _MOST_MOVING
        where = (
            f"finished {counts['finished']}, with a case {counts['in_hand']}, moving "
            f"{counts['moving']}, tasks under way {counts['tasks']}, events to deliver "
            f"{counts['undelivered']}"
            if counts
            else "no database"
        )
        line = (
            f"{time.monotonic() - self._began:6.0f} s  acknowledged {self._submitter.acknowledged}"
            f"/{self._options.orders}  {where}  strikes {len(self._nemesis.struck)}"
        )
        if self._console.is_terminal:
            self._live.update(Text(line), refresh=True)
        else:
            self._say(line)

    def _script(self, rules: misbehaviour.Rules) -> None:
        """Tell the sandbox; it may be away for a moment."""
        until(
            lambda: self._sandbox("PUT", "/behaviours", rules) is not None,
            seconds=60,
            pause_seconds=0.2,
        )

    def _sandbox(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.stack.environment.sandbox_url}{path}"
        try:
            answer = (
                self._http.request(method, url, json=body)
                if body is not None
                else self._http.request(method, url)
            )
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status >= 400:
            raise ValueError(f"The sandbox refuses {method} {path}: {answer.data[:500]!r}")
        return answer.json() if answer.data else {}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--orders", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="boundary")
    parser.add_argument(
        "--workflows",
        choices=("all", "demo"),
        default="all",
        help="orders of every workflow, with people who decide, or those of the demo (default all)",
    )
    parser.add_argument(
        "--only",
        choices=sorted(PROFILES["boundary"]),
        nargs="+",
        metavar="STRIKE",
        help="these strikes and no others",
    )
    parser.add_argument(
        "--failpoints",
        type=float,
        default=0.0,
        metavar="PERCENT",
        help="every process dies at every failpoint with this chance (default 0)",
    )
    parser.add_argument(
        "--every",
        type=float,
        nargs=2,
        default=(5.0, 20.0),
        metavar=("FROM", "TO"),
        help="seconds between two strikes (default 5 20)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=120,
        help="seconds without any progress after which a run is not waited for any longer",
    )
    options = parser.parse_args()
    if options.seed is None:
        options.seed = secrets.randbelow(100_000)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(Run(options, Console()).judge())


if __name__ == "__main__":
    main()
