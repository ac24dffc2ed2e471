"""Real servers for the tests: PostgreSQL and Redis, the schema as its owner makes it.

Tests run as the application's own role, so a missing privilege shows here first. The schema is
migrated once into a template database; every database that a test gets is a clone of it.
Unit tests start nothing. Several runs may share the servers.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from pytest_django import DjangoDbBlocker

from oms.embedded.layout import Layout, layout_of
from oms.embedded.postgres import prepare_database
from oms.embedded.servers import Servers
from oms.environment import CHECKOUT, read_environment
from tests import memory
from tests.waiting import alone

# Before Django reads its settings, which the last line of this block makes it do.
_HOME = Path(os.environ.get("OMS_HOME") or memory.place() or CHECKOUT / ".oms" / "test")
# Processes that run in parallel have servers of their own: some tests stop them.
os.environ["OMS_HOME"] = str(_HOME / os.environ.get("PYTEST_XDIST_WORKER", ""))
os.environ.setdefault("OMS_AUDIT_KEY", "of-the-tests-alone-and-long-enough-for-it")
os.environ["DJANGO_SETTINGS_MODULE"] = "oms.settings"
ENVIRONMENT = read_environment()
if ENVIRONMENT.embedded_redis:
    # Each run has a Redis database of its own, so that flushing it disturbs no other run.
    os.environ["REDIS_URL"] = layout_of(ENVIRONMENT.home).redis_url(database=1 + os.getpid() % 15)
import django  # noqa: E402

django.setup()
from django.conf import settings  # noqa: E402

from fulfillment.engine.store import guards  # noqa: E402
from fulfillment.models.base import StatefulModel  # noqa: E402
from tests import desk  # noqa: E402
from tests.desk import ScriptedSystems  # noqa: E402
from tests.properties import search  # noqa: E402
from tests.stacks import made_ready  # noqa: E402

search.begin()

T = TypeVar("T")
_SHARED = "OMS_TEST_SHARED"
"""Names a folder that the processes of a run have in common, where several run in parallel."""
URL = settings.ENVIRONMENT.database_url
OWNER_URL = settings.ENVIRONMENT.database_owner_url
TEMPLATE = "oms_test_template"
DATABASE = f"oms_test_{os.getpid()}"
_LONG = (
    "tests/browser/",
    "tests/properties/test_engine",
    "tests/crash/",
    "tests/properties/",
    "tests/integration/test_upgrade",
    "tests/integration/test_supervisor",
    "tests/integration/test_flat",
)
"""Files of many seconds, and those whose tests wait for processes rather than for a processor."""
_TEMPLATE_LOCK = 7_190_412
# Three times as quick where nobody waits for the disk.
_STRATEGY = "FILE_COPY" if ENVIRONMENT.embedded_database else "WAL_LOG"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Processes that run in parallel choose all of this by themselves, each for itself."""
    shared = Path(tempfile.mkdtemp(dir=memory.place()))
    shared.chmod(0o755)
    config.add_cleanup(lambda: shutil.rmtree(shared, ignore_errors=True))
    os.environ[_SHARED] = str(shared)
    del os.environ["DJANGO_SETTINGS_MODULE"]
    if ENVIRONMENT.embedded_redis:
        del os.environ["REDIS_URL"]


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """The embedded servers; nothing when external ones are named."""
    with Servers(environment=ENVIRONMENT):
        if ENVIRONMENT.embedded_database:
            _spare_the_disk()
        yield


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An OMS_HOME of the test's own; its servers, wherever they live, end with the test."""
    with home_in(tmp_path) as home:
        yield home


@contextmanager
def home_in(folder: Path) -> Iterator[Path]:
    """The same in `folder`, or in memory; then `folder` gets its logs."""
    with memory.a_folder(otherwise=folder) as around:
        home = around / "home"
        try:
            yield home
        finally:
            memory.clear(home)
            if around != folder and (home / "logs").is_dir():
                shutil.copytree(home / "logs", folder / "logs", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def stack_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """What the stacks of `tests.stacks.servers_like` begin with: migrated and loaded, once a run.

    Of processes that run in parallel, the first that needs it makes it for all of them.
    """
    if _SHARED not in os.environ:
        with home_in(tmp_path_factory.mktemp("model")) as home:
            yield made_ready(home)
        return
    home = Path(os.environ[_SHARED]) / "home"
    made = home.with_name("made")
    with alone(home.with_name("lock")):
        if not made.exists():
            memory.clear(home)
            made_ready(home)
            made.touch()
    yield layout_of(home)


@pytest.fixture(scope="session")
def django_db_setup(servers: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Instead of pytest-django's: a template made by the owner, a clone used by the app's role."""
    _build_template()
    _clone(DATABASE)
    with django_db_blocker.unblock():
        _use(DATABASE)
    yield
    with django_db_blocker.unblock():
        _use("none")
    _drop(DATABASE)


def _spare_the_disk() -> None:
    """What is committed outlives every process, as before; only the machine itself may not fail."""
    url = layout_of(ENVIRONMENT.home).database_url(user="postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def committed_db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of this test's own, for several threads and processes.

    Yields the URL that child processes get as DATABASE_URL; this process uses it already.
    """
    with django_db_blocker.unblock(), own_database() as url:
        yield url


@contextmanager
def template(name: str, furnish: Callable[[], T]) -> Iterator[tuple[str, T]]:
    """For `own_database`: its full name, and what `furnish` returned, which has filled it."""
    database = f"{DATABASE}_{name}"
    _clone(database)
    try:
        _use(database)
        furnished = furnish()
        # Nobody may be connected to what is copied.
        _use(DATABASE)
        yield database, furnished
    finally:
        _use(DATABASE)
        _drop(database)


@contextmanager
def own_database(*, like: str = TEMPLATE) -> Iterator[str]:
    """A copy of the template `like`, which this process uses meanwhile; its URL."""
    name = f"{DATABASE}_own"
    _clone(name, like=like)
    _use(name)
    try:
        yield _with_database(URL, name)
    finally:
        _use(DATABASE)
        _drop(name)


@pytest.fixture
def redis_url(servers: None) -> str:
    """An empty Redis; this run's Celery uses it."""
    import celery

    with celery.current_app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    return str(settings.ENVIRONMENT.redis_url)


@pytest.fixture
def systems() -> ScriptedSystems:
    """Target systems that do what the test tells them; see `tests.desk`."""
    return desk.fresh_systems()


@pytest.fixture
def clock(db: None) -> Callable[[float], None]:
    """`clock(seconds)` moves the database's clock forward; the test's rollback puts it back."""
    return desk.advance


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=_turn)
    for item in items:
        marker = item.get_closest_marker("django_db")
        if marker is not None and marker.kwargs.get("transaction"):
            # It would TRUNCATE afterwards, which the application's role may not.
            raise pytest.UsageError(f"{item.nodeid}: use the fixture committed_db instead.")


def _turn(item: pytest.Item) -> int:
    """What takes long in one file goes first, so that no process has to wait for it at the end."""
    path = item.path.relative_to(CHECKOUT).as_posix()
    return next((turn for turn, start in enumerate(_LONG) if path.startswith(start)), len(_LONG))


def _use(database: str) -> None:
    """Point Django of this process at another database, and forget what it knew of the last."""
    from django.db import connection

    from fulfillment.engine.store import calendars, graphs, routing, targets
    from oms import terms
    from oms.intake import workflows

    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
    connection.settings_dict["NAME"] = database
    calendars.forget()
    graphs.forget()
    routing.forget()
    targets.forget()
    workflows.forget()
    terms.forget()


def _build_template() -> None:
    schema = _schema_fingerprint()
    with _as_owner("postgres") as connection:
        # Of runs that begin together, one builds it and the others wait.
        connection.execute("SELECT pg_advisory_lock(%s)", [_TEMPLATE_LOCK])
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            [TEMPLATE],
        ).fetchone()
        if row == (schema,):
            return
        _drop(TEMPLATE)
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        url = _with_database(OWNER_URL, TEMPLATE)
        prepare_database(url)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
            cwd=CHECKOUT,
            env={**os.environ, "DATABASE_URL": url, "OMS_SECRET_KEY": settings.SECRET_KEY},
            check=True,
        )
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(TEMPLATE), schema)
        )


def _schema_fingerprint() -> str:
    digest = hashlib.sha256(metadata.version("django").encode())
    for file in sorted(CHECKOUT.glob("*/migrations/*.py")):
        digest.update(file.read_bytes())
    for model in django.apps.apps.get_models():
        if issubclass(model, StatefulModel):
            digest.update(guards.guard_of(model).encode())
    return digest.hexdigest()


def _clone(name: str, *, like: str = TEMPLATE) -> None:
    _drop(name)
    with _as_owner("postgres") as connection:
        # Two runs can't copy the template at the same moment.
        connection.execute("SELECT pg_advisory_lock(%s)", [_TEMPLATE_LOCK])
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
                sql.Identifier(name), sql.Identifier(like), sql.SQL(_STRATEGY)
            )
        )


def _drop(name: str) -> None:
    with _as_owner("postgres") as connection:
        # WITH (FORCE) is refused to an owner while an autovacuum worker is in it (it has no
        # role); a plain DROP ends that worker by itself, but no client.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND usename IS NOT NULL",
            [name],
        )
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def _as_owner(database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(_with_database(OWNER_URL, database), autocommit=True)


def _with_database(url: str, database: str) -> str:
    """The same server and role, another database."""
    parts = urlsplit(url)
    # Not geturl(): of an address without a host it drops the slashes.
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{database}{query}"
