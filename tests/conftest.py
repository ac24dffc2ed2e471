"""Real servers for the tests: PostgreSQL and Redis, the schema as its owner makes it.

Tests run as the application's own role, so a missing privilege shows here first. The schema is
migrated once into a template database; every database that a test gets is a clone of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

import psycopg
import pytest

from oms.embedded import postgres, redis
from oms.embedded.layout import layout_of
from oms.environment import CHECKOUT, read_environment

os.environ.setdefault("OMS_HOME", str(CHECKOUT / ".oms" / "test"))
_ENVIRONMENT = read_environment()
_LAYOUT = layout_of(_ENVIRONMENT.home)
_EMBEDDED: list[str] = []
if _ENVIRONMENT.embedded_database:
    postgres.start(_LAYOUT)
    _EMBEDDED.append("postgres")
    os.environ["DATABASE_URL"] = _LAYOUT.database_url(user="oms_app")
    os.environ["DATABASE_OWNER_URL"] = _LAYOUT.database_url(user="oms_owner")
    os.environ.setdefault("OMS_SECRET_KEY", "only for tests")
if _ENVIRONMENT.embedded_redis:
    redis.start(_LAYOUT)
    _EMBEDDED.append("redis")
    os.environ["REDIS_URL"] = _LAYOUT.redis_url

TEMPLATE = "oms_test_template"
SHARED = "oms_test"


def _owner(database: str) -> psycopg.Connection[tuple[object, ...]]:
    url = read_environment().database_owner_url
    return psycopg.connect(_with_database(url, database).replace("postgres:", "postgresql:", 1), autocommit=True)


def _with_database(url: str, database: str) -> str:
    """The same server and role, another database."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts._replace(path=f"/{database}").geturl() if parts.netloc else (
        f"{parts.scheme}:///{database}" + (f"?{parts.query}" if parts.query else "")
    )


def _clone(name: str) -> None:
    with _owner("oms") as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"')


def _drop(name: str) -> None:
    with _owner("oms") as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _migrations_hash() -> str:
    digest = hashlib.sha256()
    for file in sorted(CHECKOUT.glob("*/migrations/*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _use(database: str) -> None:
    """Point Django of this process at another database, and forget what it knew of the last."""
    from django.db import connection

    from fulfillment.engine import graphs, targets
    from oms.intake import workflows

    connection.close()
    connection.close_pool()
    connection.settings_dict["NAME"] = database
    graphs.forget()
    targets.forget()
    workflows.forget()


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    """Instead of pytest-django's: a template made by the owner, a clone used by the app's role."""
    _build_template()
    _clone(SHARED)
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        _use(SHARED)
    yield
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        _use("none")
    _drop(SHARED)


def _build_template() -> None:
    import subprocess
    import sys

    current = _migrations_hash()
    with _owner("oms") as connection:
        row = connection.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            [TEMPLATE],
        ).fetchone()
        if row is not None and row[0] == current:
            return
        connection.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
    with _owner(TEMPLATE) as connection:
        for statement in postgres.DEFAULT_PRIVILEGES.split(";"):
            connection.execute(statement.encode())
    owner_url = _with_database(read_environment().database_owner_url, TEMPLATE)
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": owner_url},
        check=True,
    )
    with _owner("oms") as connection:
        connection.execute(f"COMMENT ON DATABASE \"{TEMPLATE}\" IS '{current}'")


@pytest.fixture
def committed_db(
    django_db_setup: None, django_db_blocker: pytest.FixtureRequest, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A database of this test's own, for several threads and processes. Yields its URL."""
    name = f"{SHARED}_{os.getpid()}"
    _clone(name)
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        _use(name)
        yield _with_database(os.environ["DATABASE_URL"], name)
        _use(SHARED)
    _drop(name)


@pytest.fixture
def redis_url() -> Iterator[str]:
    """An empty Redis."""
    import celery

    with celery.current_app.connection_for_write() as connection:
        connection.default_channel.client.flushall()
    yield os.environ["REDIS_URL"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if "redis" in _EMBEDDED:
        redis.stop(_LAYOUT)
    if "postgres" in _EMBEDDED:
        postgres.stop(_LAYOUT)


