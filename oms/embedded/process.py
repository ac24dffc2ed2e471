"""Processes by their id: whether one is alive, is still the same one, and how to end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from oms.embedded.layout import Layout

_started: dict[int, subprocess.Popen[bytes]] = {}
"""What this process has launched and must reap."""


def launch(command: Sequence[str], *, log: Path, layout: Layout) -> int:
    """Start a server in a session of its own, as the servers' user, without our secrets."""
    # A server that has ended but was not reaped would still look alive to its successor.
    for pid in list(_started):
        is_alive(pid)
    user = layout.user
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=bare_environment(),
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            umask=0o077,
        )
    _started[process.pid] = process
    return process.pid


def bare_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC"}


def is_alive(pid: int) -> bool:
    """Whether the process exists and has not ended; ours are reaped on the way."""
    child = _started.get(pid)
    if child is not None and child.poll() is not None:
        del _started[pid]
        return False
    fields = _status(pid)
    return fields is not None and fields[0] != "Z"


def started_at(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; with the pid it names one process."""
    fields = _status(pid)
    return int(fields[19]) if fields is not None and fields[0] != "Z" else None


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def end(pid: int, *, how: signal.Signals, within: timedelta) -> bool:
    """Send a signal and wait. Returns whether the process is gone in time."""
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return True
    return wait_gone(pid, within=within)


def wait_gone(pid: int, *, within: timedelta) -> bool:
    deadline = time.monotonic() + within.total_seconds()
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _status(pid: int) -> list[str] | None:
    """The fields of proc(5) stat after the command's name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
