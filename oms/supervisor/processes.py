"""Child processes of a stack: started, watched, restarted, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from oms.embedded import process

_PR_SET_NAME, _PR_SET_PDEATHSIG = 15, 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_STEADY_SECONDS = 30.0
"""A child that ran this long is started again at once."""
_LOG_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run under which name; its output goes to `<name>.log`.

    A `preloaded` program is forked from the process that has Django loaded; its command is then
    `celery …`, `gunicorn …` or `manage.py …`. `health` is the port and path that answer 200 once
    it is ready. An `outside` program plays systems that the others talk to: it is ready before
    any of them starts and ends after all of them, also when the supervisor is killed.
    """

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    preloaded: bool = False
    outside: bool = False
    health: tuple[int, str] | None = None


class Process(Protocol):
    """A running child, however it was started: what Popen and Forked have in common."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...


Launch = Callable[[Program, Path], Process]


class Child:
    """One program and the process that runs it now."""

    def __init__(self, program: Program, *, logs: Path, records: Path, launch: Launch) -> None:
        self.program = program
        self.log = logs / f"{program.name}.log"
        self.restarts = 0
        self._record = records / f"{program.name}.json"
        self._launch = launch
        self._process: Process | None = None
        self._started_at = 0.0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._revive_at: float | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    def start(self) -> None:
        """Must be called by the main thread: the kernel ties the child's life to the caller's."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        self._process = self._launch(self.program, self.log)
        self._started_at = time.monotonic()
        self._revive_at = None
        remember(self._record, self._process.pid, outside=self.program.outside)

    def revive(self) -> bool:
        """Start it again if it has died, with growing pauses. True when it was started now."""
        if self._process is None or self.alive:
            return False
        now = time.monotonic()
        if self._revive_at is None:
            kill_group(self._process.pid)
            if now - self._started_at > _STEADY_SECONDS:
                self._pause_seconds = 0.0
            self._revive_at = now + self._pause_seconds
            self._pause_seconds = min(
                max(self._pause_seconds * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS
            )
        if now < self._revive_at:
            return False
        self.restarts += 1
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.alive:
            self._process.send_signal(number)

    def end(self, *, deadline: float) -> None:
        """Wait until `deadline` (monotonic) for it to end, then kill it with all its own."""
        if self._process is None:
            return
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.01)
        kill_group(self._process.pid)
        while self.alive:
            time.sleep(0.01)
        self._process = None
        self._record.unlink(missing_ok=True)


def spawn(program: Program, log: Path) -> Process:
    """Run a program as a process of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(program.command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **program.variables},
            start_new_session=True,
            preexec_fn=None if program.outside else end_with_parent,
        )


def end_with_parent() -> None:
    """A supervisor that is killed takes its children along: the next one starts from nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def name_process(name: str) -> None:
    """What ps and top show for a forked process; the kernel keeps 15 characters."""
    _LIBC.prctl(_PR_SET_NAME, name.encode()[:15])


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def remember(record: Path, pid: int, *, outside: bool) -> None:
    """Write down who runs, for a successor of this supervisor; `outside` as in Program."""
    draft = record.with_suffix(".draft")
    known = {"pid": pid, "started": process.started_at(pid), "boot": _boot(), "outside": outside}
    draft.write_text(json.dumps(known))
    draft.replace(record)


def running(record: Path) -> int | None:
    """The process that a record tells of, if it still runs; a reused id is not it."""
    try:
        known = json.loads(record.read_text())
        pid, started, boot = int(known["pid"]), known["started"], known["boot"]
    except (ValueError, KeyError, OSError):
        return None
    same = boot == _boot() and started is not None and process.started_at(pid) == started
    return pid if same else None


def stop_leftovers(records: Path, *, patience: timedelta = timedelta(seconds=10)) -> list[str]:
    """End what an earlier supervisor has left behind. Returns the names of what still ran."""
    left = {
        record: pid
        for record in sorted(records.glob("*.json"))
        if (pid := running(record)) is not None
    }
    outside = {record for record in left if json.loads(record.read_text()).get("outside")}
    _end([pid for record, pid in left.items() if record not in outside], patience)
    _end([left[record] for record in outside], patience)
    for record in records.glob("*.json"):
        record.unlink(missing_ok=True)
    return [record.stem for record in left]


def _end(pids: Sequence[int], patience: timedelta) -> None:
    """Each gets until the end of `patience` to finish what it has in hand."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience.total_seconds()
    for pid in pids:
        remaining = timedelta(seconds=max(0.0, deadline - time.monotonic()))
        if not process.wait_gone(pid, within=remaining):
            kill_group(pid)
            process.wait_gone(pid, within=timedelta(seconds=5))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
