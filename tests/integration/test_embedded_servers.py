"""The embedded PostgreSQL and Redis: whoever starts, kills or shares them, nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
import redis as redis_client
from django.db import connection

from oms.embedded import postgres, process, redis
from oms.embedded.layout import Layout, layout_of, resolve
from oms.embedded.servers import Servers
from oms.environment import CHECKOUT, EnvironmentInvalid, read_environment
from tests.waiting import until

AS_ROOT = os.getuid() == 0


def servers_of(home: Path) -> Servers:
    return Servers(environment=read_environment({"OMS_HOME": str(home)}))


def execute(layout: Layout, statement: LiteralString) -> list[tuple[object, ...]]:
    with psycopg.connect(layout.database_url(user="oms_owner"), autocommit=True) as session:
        cursor = session.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_servers_run_while_somebody_uses_them(home: Path) -> None:
    with servers_of(home) as first:
        with servers_of(home):
            assert postgres.answers(first.layout)
            assert redis.answers(first.layout)
        assert postgres.answers(first.layout)
        assert redis.answers(first.layout)
    assert postgres.running_pid(first.layout) is None
    assert redis.running_pid(first.layout) is None


def test_what_was_committed_survives_a_kill_of_both_servers(home: Path) -> None:
    with servers_of(home) as servers:
        execute(servers.layout, "CREATE TABLE kept AS SELECT 42 AS answer")
        killed = [module.running_pid(servers.layout) for module in (postgres, redis)]
        for pid in killed:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        until(lambda: postgres.running_pid(servers.layout) is None)
        servers.revive()
        assert execute(servers.layout, "SELECT answer FROM kept") == [(42,)]
        assert redis.answers(servers.layout)
        assert postgres.running_pid(servers.layout) not in killed


def test_servers_of_a_killed_starter_are_adopted(home: Path) -> None:
    starter = (
        "import os, signal\n"
        "from oms.embedded.servers import Servers\n"
        "from oms.environment import read_environment\n"
        "Servers(environment=read_environment()).start()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", starter],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "OMS_HOME": str(home), "PYTHONPATH": str(CHECKOUT)},
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    layout = layout_of(home)
    orphans = postgres.running_pid(layout), redis.running_pid(layout)
    assert None not in orphans
    with servers_of(home):
        assert (postgres.running_pid(layout), redis.running_pid(layout)) == orphans
    assert postgres.running_pid(layout) is None


def test_a_frozen_redis_is_replaced(home: Path) -> None:
    layout = layout_of(home)
    with servers_of(home):
        frozen = redis.running_pid(layout)
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        redis.start(layout)
        assert redis.running_pid(layout) not in (None, frozen)


def test_an_interrupted_initialisation_is_begun_anew(home: Path) -> None:
    servers = servers_of(home)
    with servers:
        pass
    layout = servers.layout
    # As if the machine had stopped before initdb's work was put in place.
    layout.postgres_data.rename(layout.postgres_folder / "initialising")
    (layout.postgres_folder / "initialising" / "PG_VERSION").unlink()
    with servers:
        assert execute(layout, "SELECT 1") == [(1,)]


def test_servers_listen_on_sockets_in_a_closed_folder_only(home: Path) -> None:
    with servers_of(home) as servers:
        layout = servers.layout
        assert execute(layout, "SHOW listen_addresses") == [("",)]
        client = redis_client.Redis(unix_socket_path=str(layout.redis_socket))
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.close()
        assert stat.S_IMODE(layout.sockets.stat().st_mode) == 0o700


def test_the_owner_makes_tables_that_the_application_may_use(home: Path) -> None:
    with servers_of(home) as servers:
        execute(servers.layout, "CREATE TABLE made (id bigserial)")
        with psycopg.connect(servers.layout.database_url(user="oms_app")) as session:
            session.execute("INSERT INTO made DEFAULT VALUES")
            assert session.execute("SELECT count(*) FROM made").fetchone() == (1,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("TRUNCATE made")


@pytest.mark.parametrize("name", ["a" * 120, "with spaces, and ünïcode"])
def test_a_home_that_sockets_can_not_live_in_works(home: Path, name: str) -> None:
    servers = servers_of(home / name)
    try:
        with servers:
            assert len(os.fsencode(servers.layout.redis_socket)) < 100
            assert execute(servers.layout, "SELECT 1") == [(1,)]
            assert redis.answers(servers.layout)
    finally:
        for folder in {servers.layout.servers, servers.layout.sockets.parent}:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(not AS_ROOT, reason="only root drops to another user")
def test_root_runs_the_servers_as_somebody_else_and_opens_no_folder(home: Path) -> None:
    home.parent.chmod(0o700)
    with servers_of(home) as servers:
        layout = servers.layout
        assert not layout.servers.is_relative_to(home)
        assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700
        for pid in (postgres.running_pid(layout), redis.running_pid(layout)):
            assert Path(f"/proc/{pid}").stat().st_uid != 0


@pytest.mark.skipif(not AS_ROOT, reason="only root can give a folder away")
def test_a_folder_that_somebody_else_has_put_there_is_refused(home: Path) -> None:
    layout = layout_of(home)
    layout.servers.mkdir(mode=0o777, parents=True)
    os.chown(layout.servers, 12345, 12345)
    with pytest.raises(EnvironmentInvalid, match="belongs to somebody else"):
        servers_of(home).start()


def test_a_generated_secret_is_made_once_and_closed_to_others(home: Path) -> None:
    first = resolve(read_environment({"OMS_HOME": str(home)}))
    again = resolve(read_environment({"OMS_HOME": str(home)}))
    assert first.secret_key == again.secret_key
    assert len(first.secret_key) > 40
    assert stat.S_IMODE((home / "secrets" / "secret-key").stat().st_mode) == 0o600


def test_an_external_database_needs_a_secret_key(home: Path) -> None:
    with pytest.raises(EnvironmentInvalid, match="OMS_SECRET_KEY is not set"):
        resolve(read_environment({"OMS_HOME": str(home), "DATABASE_URL": "postgres://db/oms"}))


def test_an_external_database_needs_a_key_for_its_audit_trails(home: Path) -> None:
    given = {"OMS_HOME": str(home), "DATABASE_URL": "postgres://db/oms", "OMS_SECRET_KEY": "key"}
    with pytest.raises(EnvironmentInvalid, match="OMS_AUDIT_KEY is not set"):
        resolve(read_environment(given))


def test_a_process_that_has_ended_is_not_alive(home: Path) -> None:
    home.mkdir()
    pid = process.launch(["true"], log=home / "log", layout=layout_of(home))
    assert process.wait_gone(pid, within=timedelta(seconds=20))
    assert process.started_at(pid) is None


@pytest.mark.django_db
def test_tests_run_as_the_application_role_which_owns_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("oms_app",)
        cursor.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT count(*) > 10 FROM pg_tables WHERE tableowner = 'oms_owner'")
        assert cursor.fetchone() == (True,)
