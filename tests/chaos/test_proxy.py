"""The broken wire: what it breaks, and what it leaves alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from oms.embedded.layout import layout_of
from tests.chaos.proxy import Frontend, Proxy
from tests.conftest import ENVIRONMENT, OWNER_URL, _with_database
from tests.waiting import until

pytestmark = pytest.mark.skipif(
    not ENVIRONMENT.embedded_database, reason="The wire goes between sockets of this machine."
)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="oms-wire-") as folder:
        made = Proxy(folder=Path(folder), upstream=layout_of(ENVIRONMENT.home).sockets)
        made.start()
        yield made
        made.stop()


@pytest.fixture
def url(proxy: Proxy, committed_db: str) -> str:
    """The test's database through the wire, with an empty table `notes` in it."""
    owner = _with_database(OWNER_URL, committed_db.partition("?")[0].rpartition("/")[2])
    with psycopg.connect(owner) as connection:
        connection.execute("CREATE TABLE notes (text text)")
        connection.execute("GRANT ALL ON notes TO PUBLIC")
    return proxy.url(committed_db)


def notes(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM notes ORDER BY text")]


def test_it_passes_everything_on(url: str, proxy: Proxy) -> None:
    with psycopg.connect(url) as connection:
        for number in range(30):  # past the threshold for prepared statements
            connection.execute("INSERT INTO notes VALUES (%s)", [f"{number:02}" * 5000])
    assert [text[:2] for text in notes(url)] == [f"{number:02}" for number in range(30)]
    assert proxy.commits == 2
    until(lambda: proxy.connections == 0)


@pytest.mark.parametrize(("delivered", "kept"), [(True, ["one"]), (False, [])])
def test_a_connection_is_cut_at_its_commit(
    url: str, proxy: Proxy, delivered: bool, kept: list[str]
) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO notes VALUES ('one')")
        proxy.cut_at_commit(delivered=delivered)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert notes(url) == kept
    assert proxy.cuts == 1


def test_a_prepared_commit_is_seen_as_well(url: str, proxy: Proxy) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO notes VALUES ('one')")
        proxy.cut_at_commit()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("COMMIT", prepare=True, binary=True)
    assert notes(url) == ["one"]


def test_every_connection_is_cut_at_once(url: str, proxy: Proxy) -> None:
    connections = [psycopg.connect(url) for _ in range(3)]
    assert proxy.cut_all() == 3
    for connection in connections:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert notes(url) == []


def test_nothing_passes_a_black_hole_until_it_is_closed(
    url: str, proxy: Proxy, committed_db: str
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        proxy.blackhole(True)
        connection.pgconn.send_query(b"INSERT INTO notes VALUES ('one')")
        assert notes(committed_db) == []
        proxy.blackhole(False)
        until(lambda: notes(committed_db) == ["one"])
        connection.pgconn.finish()


def test_new_connections_are_refused(url: str, proxy: Proxy) -> None:
    proxy.refuse(True)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    proxy.refuse(False)
    assert notes(url) == []


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


def test_commits_are_found_wherever_the_stream_is_torn() -> None:
    startup = (8 + 4).to_bytes(4) + (196608).to_bytes(4) + b"abcd"
    stream = (
        (8).to_bytes(4)
        + (80877103).to_bytes(4)
        + startup
        + message(b"Q", b"BEGIN\0")
        + message(b"Q", b"SELECT 'COMMIT'\0")
        + message(b"Q", b"commit;\0")
        + message(b"P", b"s1\0 COMMIT\0\0\0")
        + message(b"B", b"p1\0s1\0\0\0\0\0\0\0")
        + message(b"E", b"p1\0\0\0\0\0")
        + message(b"P", b"\0SELECT 1\0\0\0")
        + message(b"B", b"\0\0\0\0\0\0\0\0")
        + message(b"E", b"\0\0\0\0\0")
    )
    for step in (1, 3, 7, len(stream)):
        frontend = Frontend()
        parts = [stream[at : at + step] for at in range(0, len(stream), step)]
        assert sum(sum(frontend.commits(part)) for part in parts) == 2, step
