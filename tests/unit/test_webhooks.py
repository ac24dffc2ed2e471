"""Where events may be sent, and what becomes of one that is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from adapters import webhooks
from adapters.webhooks import AddressForbidden, Receipt
from tests.receiver import Receiver, Reply

_PUBLIC = "93.184.215.14"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names lead to here; everything else is resolved as usual. Each look-up is counted."""
    known: dict[str, list[str]] = {"asked": []}
    really = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in known:
            return really(host, port, *args, **options)
        known["asked"].append(host)
        return [
            found for address in known[host] for found in really(address, port, *args, **options)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


def post(url: str, *allowed: str, seconds: float = 5, **headers: str) -> Receipt:
    return webhooks.post(
        url=url,
        body=b"{}",
        headers=headers,
        deadline=timedelta(seconds=seconds),
        allowed_origins=allowed,
    )


# --- where nothing is sent ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "192.0.2.1"),
        *("198.18.0.1", "192.88.99.1"),
        *("::", "::1", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:93.184.215.14", "::7f00:1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::"),
        *("2001:db8::1", "64:ff9b:1::1", "2001:20::1", "100::1", "3fff::1", "5f00::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused_even_behind_a_name(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 80, 0, 0))],
    )
    url = "http://hooks.example/"
    with pytest.raises(AddressForbidden, match="not a public address"):
        webhooks.check_url(url=url)
    receipt = post(url)
    assert (receipt.status, receipt.delivered) == (0, False)
    assert "not a public address" in receipt.reason


@pytest.mark.parametrize(
    "address",
    [_PUBLIC, "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"],
)
def test_a_public_address_is_accepted(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda *_, **__: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 80, 0, 0))],
    )
    webhooks.check_url(url="https://hooks.example/in?source=oms")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://hooks.example/",
            "file:///etc/passwd",
            "gopher://hooks.example/",
            "//hooks.example",
        ),
        *("hooks.example", "http://", "http:///path", "http://user@hooks.example/", ""),
        *("http://hooks.example@127.0.0.1/", "http://hooks.example\\@127.0.0.1/"),
        *("http://hooks.example/ x", "http://hooks.example/\r\nHost: a", "http://höoks.example/"),
        *("http://hooks.example/#part", "http://hooks.example:99999/", "http://hooks.example:0/"),
        *("http://[::1/", "http://hooks.example:x/"),
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(AddressForbidden, match="no address for events"):
        webhooks.check_url(url=url)
    assert not post(url).delivered


@pytest.mark.parametrize("port", [22, 25, 5432, 6379, 9200])
def test_other_services_ports_are_refused(port: int) -> None:
    with pytest.raises(AddressForbidden, match=f"Port {port}"):
        webhooks.check_url(url=f"http://{_PUBLIC}:{port}/")


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0", "[::ffff:7f00:1]"])
def test_odd_spellings_of_an_address_are_seen_through(host: str) -> None:
    with pytest.raises(AddressForbidden, match="not a public address"):
        webhooks.check_url(url=f"http://{host}/")


def test_a_name_that_leads_home_gets_no_connection(
    receiver: Receiver, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_USUAL_PORTS", frozenset({receiver.port}))
    names["home.example"] = ["127.0.0.1"]
    receipt = post(f"http://home.example:{receiver.port}/")
    assert "127.0.0.1, which is not a public address" in receipt.reason
    assert receiver.received == []


def test_one_address_at_home_among_public_ones_is_enough(
    receiver: Receiver, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_USUAL_PORTS", frozenset({receiver.port}))
    names["both.example"] = [_PUBLIC, "127.0.0.1"]
    assert "not a public address" in post(f"http://both.example:{receiver.port}/").reason
    assert receiver.received == []


def test_a_name_is_looked_up_once_and_what_was_looked_at_is_connected_to(
    receiver: Receiver, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that changes between the look and the connection has no second look to answer."""
    looked_at: list[str] = []

    def admit(address: str) -> None:
        looked_at.append(address)
        names["hooks.example"] = [_PUBLIC]  # from now on it says something else

    monkeypatch.setattr(webhooks, "_USUAL_PORTS", frozenset({receiver.port}))
    monkeypatch.setattr(webhooks, "_admit", admit)
    names["hooks.example"] = ["127.0.0.1"]
    assert post(f"http://hooks.example:{receiver.port}/").delivered
    assert looked_at == ["127.0.0.1"]
    assert names["asked"] == ["hooks.example"]
    assert len(receiver.received) == 1


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.script = lambda _: Reply(status=307, headers={"Location": f"{receiver.origin}/inside"})
    receipt = post(f"{receiver.origin}/hook", receiver.origin)
    assert not receipt.delivered
    assert "307" in receipt.reason
    assert "Redirects are not followed" in receipt.reason
    assert [request.path for request in receiver.received] == ["/hook"]


# --- what is allowed by name ----------------------------------------------------------------------


def test_a_receiver_in_our_own_network_may_be_allowed_by_its_origin(receiver: Receiver) -> None:
    url = f"{receiver.origin}/hook?a=1"
    assert not post(url).delivered
    webhooks.check_url(url=url, allowed_origins=[receiver.origin])
    assert post(url, receiver.origin).delivered
    assert [request.path for request in receiver.received] == ["/hook?a=1"]


@pytest.mark.parametrize(
    "other", ["http://127.0.0.1", "https://127.0.0.1:{port}", "http://localhost:{port}"]
)
def test_an_allowed_origin_is_scheme_host_and_port(receiver: Receiver, other: str) -> None:
    assert not post(f"{receiver.origin}/", other.format(port=receiver.port)).delivered
    assert receiver.received == []


def test_a_connection_that_was_allowed_is_not_used_when_it_no_longer_is(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_USUAL_PORTS", frozenset({receiver.port}))
    assert post(receiver.origin, receiver.origin).delivered
    assert not post(receiver.origin).delivered
    assert len(receiver.received) == 1


# --- what becomes of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_delivery(receiver: Receiver, status: int) -> None:
    receiver.script = lambda _: Reply(status=status)
    receipt = post(receiver.origin, receiver.origin)
    assert (receipt.delivered, receipt.status, receipt.reason) == (True, status, "")


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 429, 500, 503])
def test_anything_else_is_not(receiver: Receiver, status: int) -> None:
    receiver.script = lambda _: Reply(status=status, headers={"Retry-After": "7"})
    receipt = post(receiver.origin, receiver.origin)
    assert (receipt.delivered, receipt.status) == (False, status)
    assert str(status) in receipt.reason
    assert receipt.retry_after == timedelta(seconds=7)


def _cut(_: object) -> Reply:
    raise ConnectionAbortedError


def test_a_cut_connection_is_told(receiver: Receiver) -> None:
    receiver.script = _cut
    assert post(receiver.origin, receiver.origin).reason.startswith("No answer: ")


def test_a_closed_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert post(origin, origin).reason.startswith("No answer: ")


def test_a_name_that_nobody_knows_is_told_and_may_be_entered() -> None:
    url = "http://nobody.invalid/"
    webhooks.check_url(url=url)
    assert post(url).reason.startswith("No answer: ")


def test_an_answer_larger_than_anybody_needs_is_not_read(receiver: Receiver) -> None:
    receiver.script = lambda _: Reply(status=200, body=b"x" * 20_000_000)
    assert post(receiver.origin, receiver.origin).delivered
    assert post(receiver.origin, receiver.origin).delivered


def test_who_does_not_answer_is_given_up(receiver: Receiver) -> None:
    over = threading.Event()

    def hang(_: object) -> Reply:
        over.wait(30)
        return Reply()

    receiver.script = hang
    try:
        receipt = post(receiver.origin, receiver.origin, seconds=0.2)
    finally:
        over.set()
    assert receipt.reason.startswith("No answer: ")
