"""Child processes of a stack: started, watched, restarted, and never left behind."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_STEADY_SECONDS = 30.0
"""A child that ran this long is started again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to run under which name; its output goes to `<name>.log`."""

    name: str
    command: Sequence[str]
    variables: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One program and the process that runs it now."""

    def __init__(self, program: Program, *, logs: Path, records: Path) -> None:
        self.program = program
        self._log = logs / f"{program.name}.log"
        self._record = records / f"{program.name}.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._start_not_before = 0.0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.alive and self._process is not None else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        return self._log

    def start(self) -> None:
        """Must be called by the main thread: the kernel ties the child's life to the caller's."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                list(self.program.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.program.variables},
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._started_at = time.monotonic()
        self._record.write_text(
            json.dumps({"pid": self._process.pid, "born": born(self._process.pid)})
        )

    def revive(self) -> bool:
        """Start it again if it has died, with growing pauses. True when it was started now."""
        if self.alive:
            return False
        now = time.monotonic()
        if self._start_not_before == 0.0:
            steady = now - self._started_at > _STEADY_SECONDS
            self._pause = (
                _FIRST_PAUSE_SECONDS if steady else min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
            )
            self._start_not_before = now if steady or not self.restarts else now + self._pause
        if now < self._start_not_before:
            return False
        self._start_not_before = 0.0
        self.restarts += 1
        self.start()
        return True

    def signal(self, number: signal.Signals) -> None:
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def end(self, *, deadline: float) -> None:
        """Wait until `deadline` (monotonic) for it to end, then kill it with all its own."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill_group(self._process.pid)
            self._process.wait()
        self._record.unlink(missing_ok=True)


def _end_with_parent() -> None:
    # A supervisor that is killed takes its children along: the next one starts from nothing.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def born(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the id, it names one process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stop_leftovers(records: Path, *, patience_seconds: float = 10.0) -> list[str]:
    """End what an earlier supervisor has left behind; a reused process id is left alone."""
    stopped = []
    for record in sorted(records.glob("*.json")):
        try:
            known = json.loads(record.read_text())
            pid, birth = int(known["pid"]), known["born"]
        except (ValueError, KeyError, OSError):
            record.unlink(missing_ok=True)
            continue
        if birth is not None and born(pid) == birth:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + patience_seconds
            while born(pid) == birth and time.monotonic() < deadline:
                time.sleep(0.05)
            if born(pid) == birth:
                kill_group(pid)
            stopped.append(record.stem)
        record.unlink(missing_ok=True)
    return stopped
