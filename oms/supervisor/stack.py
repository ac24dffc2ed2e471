"""A whole stack: `make up`, the demo and the crash tests all run this."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from oms.embedded.layout import layout_of, prepare_home, resolve
from oms.embedded.servers import Servers
from oms.environment import Environment
from oms.supervisor.forks import Preloaded
from oms.supervisor.processes import Child, Process, Program, spawn, stop_leftovers
from oms.supervisor.programs import programs, variables

Say = Callable[[str], None]
_STOP_SECONDS = 15.0
_LAST_STOP_SECONDS = 5.0
_READY_SECONDS = 90.0


class StackFailed(Exception):
    """The stack can't start or stay up; the message says what to change."""

    code = "oms.stack_failed"


class Stack:
    """Servers (when they are embedded) and processes of one OMS_HOME.

    One thread drives it: `start_servers`, `start`, `wait_ready`, then `watch` now and then, and
    at the end `stop` and `stop_servers`, which may be called whatever has or hasn't started.
    """

    def __init__(self, environment: Environment, *, say: Say = lambda _: None) -> None:
        self.layout = layout_of(environment.home)
        self.environment = resolve(environment)
        self.servers = Servers(environment=environment)
        self._say = say
        self._children: dict[str, Child] = {}
        self._lock: int | None = None
        self._preloaded = Preloaded(
            variables=self.variables(),
            log=self.layout.logs / "preloaded.log",
            record=self.layout.run / "preloaded.json",
        )

    def variables(self) -> dict[str, str]:
        """The environment that every process of the stack gets."""
        return variables(self.environment)

    # --- servers -----------------------------------------------------------------------------

    def start_servers(self, *, without: Collection[str] = ()) -> None:
        """Embedded PostgreSQL and Redis, started or adopted; nothing when URLs are set.

        Before anything starts, leftovers of a killed supervisor are stopped and the ports
        looked at. Raises StackFailed, EnvironmentInvalid, ServerFailed.
        """
        prepare_home(self.layout)
        self._take_lock()
        try:
            left = stop_leftovers(self.layout.run)
            if left:
                self._say(f"Stopped what an earlier run had left behind: {', '.join(left)}.")
            self._check_ports(without)
            self._preloaded.begin()
            self.servers.start()
        except BaseException:
            self.stop_servers()
            raise

    def stop_servers(self) -> None:
        self._preloaded.end()
        self.servers.stop()
        self._release_lock()

    # --- processes ---------------------------------------------------------------------------

    def start(self, *, without: Collection[str] = ()) -> None:
        """Start every process but those named in `without`. Raises StackFailed."""
        self._check_ports(without)
        for program in programs(self.environment, home=self.layout):
            if program.name not in without:
                child = Child(
                    program,
                    logs=self.layout.logs,
                    records=self.layout.run,
                    launch=self._launch,
                )
                self._children[program.name] = child
                child.start()
                if program.outside:
                    self.wait_ready()

    def wait_ready(self, *, seconds: float = _READY_SECONDS) -> None:
        """Until all that listen answer and every child is alive. Raises StackFailed."""
        deadline = time.monotonic() + seconds
        waiting = {
            name: child.program.health
            for name, child in self._children.items()
            if child.program.health is not None
        }
        while waiting:
            for child in self._children.values():
                if not child.alive:
                    raise StackFailed(
                        f"{child.program.name} stopped while it started; see {child.log}."
                    )
            for name, (port, path) in list(waiting.items()):
                if _answers(self.host, port, path):
                    del waiting[name]
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"{', '.join(waiting)} did not answer within {seconds:.0f} seconds; "
                    f"the logs are in {self.layout.logs}."
                )
            time.sleep(0.05)

    def watch(self) -> None:
        """Start again whatever has died; to be called now and then by the main thread."""
        self.servers.revive()
        for child in self._children.values():
            if child.revive():
                self._say(f"{child.program.name} had stopped and was started again.")

    def stop(self) -> None:
        """Everything gets the time to finish what it has in hand, but not more."""
        children = self._children.values()
        _end([child for child in children if not child.program.outside], seconds=_STOP_SECONDS)
        _end([child for child in children if child.program.outside], seconds=_LAST_STOP_SECONDS)
        self._children.clear()

    def restart(self, name: str) -> None:
        """End one process in good order and start it again. Raises KeyError."""
        _end([self._children[name]], seconds=_STOP_SECONDS)
        self._children[name].start()

    def pid(self, name: str) -> int | None:
        return self._children[name].pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process; `watch` starts it again if that ends it."""
        self._children[name].signal(number)

    @property
    def names(self) -> list[str]:
        return list(self._children)

    @property
    def host(self) -> str:
        """Where this machine reaches what listens on `bind`."""
        bind = self.environment.bind
        return "127.0.0.1" if bind == "0.0.0.0" else bind  # noqa: S104 (compared, not bound)

    @property
    def flower_password(self) -> str:
        return self.environment.flower_password

    def _launch(self, program: Program, log: Path) -> Process:
        return (self._preloaded.launch if program.preloaded else spawn)(program, log)

    # --- guards ------------------------------------------------------------------------------

    @property
    def is_alone(self) -> bool:
        """Whether no other supervisor runs this stack at the moment."""
        if self._lock is None:
            try:
                prepare_home(self.layout)
                self._take_lock()
            except StackFailed:
                return False
            self._release_lock()
        return True

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        lock = os.open(self.layout.run / "stack.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StackFailed(
                f"Another stack runs on {self.layout.home}. Stop it, or set another OMS_HOME "
                "and other ports (OMS_WEB_PORT, OMS_FLOWER_PORT, OMS_SANDBOX_PORT)."
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _check_ports(self, without: Collection[str]) -> None:
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
                except OSError as error:
                    raise StackFailed(
                        f"{name} can't listen on {self.environment.bind}:{port} "
                        f"({error.strerror}). Stop what uses it, or set {variable} to a free port."
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
        public_url=f"http://127.0.0.1:{ports[0]}",
        sandbox_url=f"http://127.0.0.1:{ports[2]}",
    )


def _end(children: Sequence[Child], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for child in children:
        child.signal(signal.SIGTERM)
    for child in children:
        child.end(deadline=deadline)


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
