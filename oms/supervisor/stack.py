"""A whole stack: `make up`, the demo and the crash tests all run this."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import IO

from oms.embedded import postgres, redis
from oms.embedded.layout import generated_secret, layout_of, resolve
from oms.environment import CHECKOUT, ORCHESTRATION_QUEUE, Environment
from oms.supervisor.processes import Child, Program, stop_leftovers

Say = Callable[[str], None]
_STOP_SECONDS = 20.0
_READY_SECONDS = 90.0


class StackFailed(Exception):
    """The stack can't start or stay up; the message says what to change."""

    code = "oms.stack_failed"


class Stack:
    """Servers (when they are embedded) and processes of one OMS_HOME."""

    def __init__(self, environment: Environment, *, say: Say = lambda _: None) -> None:
        self.given = environment
        self.layout = layout_of(environment.home)
        self.environment = resolve(environment)
        self._say = say
        self._children: dict[str, Child] = {}
        self._lock: IO[str] | None = None
        self.flower_password = generated_secret(self.layout, "flower-password")

    # --- servers -----------------------------------------------------------------------------

    def start_servers(self) -> None:
        """Embedded PostgreSQL and Redis, started or adopted; nothing when URLs are set."""
        self._take_lock()
        self.layout.run.mkdir(parents=True, exist_ok=True)
        self.layout.logs.mkdir(parents=True, exist_ok=True)
        left = stop_leftovers(self.layout.run)
        if left:
            self._say(f"Stopped what an earlier run had left behind: {', '.join(left)}.")
        if self.given.embedded_database:
            postgres.start(self.layout)
        if self.given.embedded_redis:
            redis.start(self.layout)

    def stop_servers(self) -> None:
        if self.given.embedded_redis:
            redis.stop(self.layout)
        if self.given.embedded_database:
            postgres.stop(self.layout)
        self._release_lock()

    def variables(self) -> dict[str, str]:
        """The environment that every process of the stack gets."""
        environment = self.environment
        return {
            "DJANGO_SETTINGS_MODULE": "oms.settings",
            "OMS_HOME": str(environment.home),
            "DATABASE_URL": environment.database_url,
            "DATABASE_OWNER_URL": environment.database_owner_url,
            "REDIS_URL": environment.redis_url,
            "OMS_SECRET_KEY": environment.secret_key,
            "OMS_WEB_PORT": str(environment.web_port),
            "OMS_FLOWER_PORT": str(environment.flower_port),
            "OMS_SANDBOX_PORT": str(environment.sandbox_port),
            "OMS_PUBLIC_URL": environment.public_url,
            "OMS_TARGET_QUEUES": ",".join(environment.target_queues),
            "OMS_FAST_PATH": "on" if environment.fast_path else "off",
            "OMS_SCANNER": "on" if environment.scanner else "off",
            "OMS_CALLBACK_SECRET": generated_secret(self.layout, "callback-secret"),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
        }

    # --- processes ---------------------------------------------------------------------------

    def start(self, *, without: Sequence[str] = ()) -> None:
        """Start every process but those named in `without`."""
        self._check_ports(without)
        variables = self.variables()
        for program in self._programs(variables):
            if program.name not in without:
                child = Child(program, logs=self.layout.logs, records=self.layout.run)
                self._children[program.name] = child
                child.start()

    def _programs(self, variables: dict[str, str]) -> list[Program]:
        environment = self.environment
        python = sys.executable
        celery = [python, "-m", "celery", "-A", "oms"]

        def worker(name: str, queue: str, threads: int) -> Program:
            return Program(
                name=name,
                command=[
                    *celery,
                    "worker",
                    *("--queues", queue),
                    *("--hostname", f"{name}@%h"),
                    *("--pool", "threads", "--concurrency", str(threads)),
                    *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
                ],
                variables=variables,
            )

        return [
            Program(
                name="sandbox",
                command=[
                    *(python, "-m", "adapters.sandbox"),
                    *("--port", str(environment.sandbox_port)),
                    *("--ledger", str(environment.home / "sandbox.sqlite3")),
                ],
                variables=variables,
            ),
            Program(
                name="web",
                command=[
                    *(python, "-m", "gunicorn", "oms.wsgi:application"),
                    *("--bind", f"{environment.bind}:{environment.web_port}"),
                    *("--worker-class", "gthread", "--workers", "1", "--threads", "8"),
                    *("--graceful-timeout", "10", "--access-logfile", "-"),
                    *("--worker-tmp-dir", "/dev/shm"),  # noqa: S108
                ],
                variables=variables,
            ),
            worker("orchestration", ORCHESTRATION_QUEUE, 4),
            *(worker(f"worker-{queue}", queue, 2) for queue in environment.target_queues),
            Program(
                name="beat",
                command=[*celery, "beat", "--loglevel", "WARNING", "--pidfile", ""],
                variables=variables,
            ),
            Program(
                name="flower",
                command=[
                    *celery,
                    "flower",
                    f"--address={environment.bind}",
                    f"--port={environment.flower_port}",
                    "--read_only=True",
                ],
                variables={**variables, "FLOWER_BASIC_AUTH": f"admin:{self.flower_password}"},
            ),
        ]

    def wait_ready(self, *, seconds: float = _READY_SECONDS) -> None:
        """Until web and sandbox answer and every child is alive. Raises StackFailed."""
        deadline = time.monotonic() + seconds
        waiting = {
            "web": (self.environment.web_port, "/api/v1/health"),
            "sandbox": (self.environment.sandbox_port, "/healthz"),
        }
        waiting = {name: where for name, where in waiting.items() if name in self._children}
        while waiting:
            for name, (port, path) in list(waiting.items()):
                if _answers(port, path):
                    del waiting[name]
            for child in self._children.values():
                if not child.alive:
                    raise StackFailed(
                        f"{child.program.name} stopped while it started; its log is {child.log}."
                    )
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"{', '.join(waiting)} did not answer within {seconds:.0f} seconds; "
                    f"the logs are in {self.layout.logs}."
                )
            time.sleep(0.05)

    def watch(self) -> None:
        """Start again whatever has died; to be called now and then by the main thread."""
        for child in self._children.values():
            if child.revive():
                self._say(f"{child.program.name} had stopped and was started again.")

    def stop(self) -> None:
        """Workers and beat first, the systems that they talk to last."""
        order = sorted(
            self._children.values(),
            key=lambda child: child.program.name in ("web", "sandbox"),
        )
        deadline = time.monotonic() + _STOP_SECONDS
        for child in order:
            child.signal(child.program.stop_signal)
        for child in order:
            child.end(deadline=deadline)
        self._children.clear()

    def pid(self, name: str) -> int | None:
        return self._children[name].pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; `watch` starts it again if that ends it."""
        self._children[name].signal(number)

    @property
    def names(self) -> list[str]:
        return list(self._children)

    # --- guards ------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self.layout.run.mkdir(parents=True, exist_ok=True)
        lock = (self.layout.run / "lock").open("a+")
        os.set_inheritable(lock.fileno(), False)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise StackFailed(
                f"Another stack runs on {self.layout.home}. Stop it, or set another OMS_HOME "
                "and other ports (OMS_WEB_PORT, OMS_FLOWER_PORT, OMS_SANDBOX_PORT)."
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_ports(self, without: Sequence[str]) -> None:
        ports = {
            "web": ("OMS_WEB_PORT", self.environment.web_port),
            "flower": ("OMS_FLOWER_PORT", self.environment.flower_port),
            "sandbox": ("OMS_SANDBOX_PORT", self.environment.sandbox_port),
        }
        for name, (variable, port) in ports.items():
            if name in without:
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.environment.bind, port))
                except OSError:
                    raise StackFailed(
                        f"Port {port} is taken, and {name} needs it. Stop what uses it, or set "
                        f"{variable} to a free port."
                    ) from None


def with_free_ports(environment: Environment) -> Environment:
    """The same environment on ports that are free now: several stacks run side by side."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        ports = []
        for probe in (one, two, three):
            probe.bind((environment.bind, 0))
            ports.append(probe.getsockname()[1])
    return replace(
        environment,
        web_port=ports[0],
        flower_port=ports[1],
        sandbox_port=ports[2],
        public_url=f"http://{environment.bind}:{ports[0]}",
    )


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
