"""The supervisor's side of the preloaded process: ask it for forks, hear of their end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from oms.embedded import process
from oms.supervisor.preloaded import MESSAGE_BYTES
from oms.supervisor.processes import Program, end_with_parent, kill_group, remember

_LOAD_SECONDS = 60.0
_ANSWER_SECONDS = 10.0
_END_WITHIN = timedelta(seconds=10)


class PreloadFailed(Exception):
    """The preloaded process can't be started; the message names its log."""

    code = "oms.preload_failed"


class Forked:
    """A process that the preloaded one has forked for us."""

    def __init__(self, pid: int, started: int | None, owner: Preloaded) -> None:
        self.pid = pid
        self._started = started
        self._owner = owner
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            self._code = self._owner.code_of(self.pid)
        # When the preloaded process itself has died, nobody reports the end of its forks.
        if self._code is None and not self._runs:
            self._code = -signal.SIGKILL
        return self._code

    @property
    def _runs(self) -> bool:
        return self._started is not None and process.started_at(self.pid) == self._started

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class Preloaded:
    """The preloaded process of one stack; started again when it has died."""

    def __init__(self, *, variables: Mapping[str, str], log: Path, record: Path) -> None:
        self._variables = variables
        self._log = log
        self._record = record
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._codes: dict[int, int] = {}
        self._loaded = False
        self._answers: list[int] = []

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    def begin(self) -> None:
        """Start loading, without waiting for it."""
        if self.alive:
            return
        if self._channel is not None:
            self._channel.close()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._loaded = False
        self._answers.clear()
        with theirs, self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "oms.supervisor.preloaded", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._variables},
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                preexec_fn=end_with_parent,
            )
        remember(self._record, self._process.pid, outside=False)

    def launch(self, program: Program, log: Path) -> Forked:
        """Fork a program, whose output goes to `log`. Raises PreloadFailed."""
        self.begin()
        self._wait(lambda: self._loaded, seconds=_LOAD_SECONDS)
        request = {
            "name": program.name,
            "command": list(program.command),
            "variables": dict(program.variables),
            "log": str(log),
        }
        assert self._channel is not None
        self._channel.send(json.dumps({"run": request}).encode())
        self._wait(lambda: bool(self._answers), seconds=_ANSWER_SECONDS)
        pid = self._answers.pop()
        return Forked(pid, process.started_at(pid), self)

    def code_of(self, pid: int) -> int | None:
        self._listen(seconds=0.0)
        return self._codes.pop(pid, None)

    def end(self) -> None:
        """End it, and with it whatever it has forked."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            try:
                self._process.wait(_END_WITHIN.total_seconds())
            except subprocess.TimeoutExpired:
                kill_group(self._process.pid)
                self._process.wait()
            self._process = None
        self._record.unlink(missing_ok=True)

    def _wait(self, done: Callable[[], bool], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if not self.alive:
                raise PreloadFailed(f"The stack's code can't be loaded; see {self._log}.")
            if time.monotonic() > deadline:
                raise PreloadFailed(f"The preloaded process does not answer; see {self._log}.")
            self._listen(seconds=0.1)

    def _listen(self, *, seconds: float) -> None:
        """Take in the messages that are there; wait up to `seconds` for the first."""
        channel = self._channel
        if channel is None:
            return
        while True:
            channel.settimeout(seconds)
            try:
                message = channel.recv(MESSAGE_BYTES)
            except (TimeoutError, BlockingIOError, ConnectionResetError):
                return
            if not message:
                return
            seconds = 0.0
            content = json.loads(message)
            if "loaded" in content:
                self._loaded = True
            elif "ended" in content:
                self._codes[content["ended"]] = content["code"]
            else:
                self._answers.append(content["pid"])
