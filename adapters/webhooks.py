"""Events to subscribers over HTTP, to addresses that people enter: guarded against SSRF.

A subscriber's address must not lead into our own network. Its name is resolved once, all the
addresses that it has are looked at, and the connection goes to one of these; a redirect is not
followed, and what comes back is not read further than to find its end. Receivers in our own
network have to be named by their origin (scheme, host and port).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from adapters.answers import retry_after
from adapters.deadline import connection_pool, resolve, total_deadline

_PORTS = {"http": 80, "https": 443}
_USUAL_PORTS = frozenset({80, 443, 8080, 8443})
_MOST_BYTES_OF_AN_ANSWER = 16 * 1024
_KEPT_OPEN_PER_ORIGIN = 4
_LOOKED_UP_FOR = timedelta(seconds=3)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Beside what `ipaddress` knows not to be global, which differs between releases of Python.
_FORBIDDEN = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("168.63.129.16/32", "192.0.0.0/24"),  # clouds' own services
        "100.64.0.0/10",  # behind a provider's NAT
        *("192.88.99.0/24", "2002::/16"),  # 6to4, which carries an IPv4 address
        "2001::/23",  # Teredo, which does so too, and other protocols' own
        "64:ff9b:1::/48",  # NAT64 of a local network
        *("fec0::/10", "100::/64", "3fff::/20", "5f00::/16"),
    )
)


class AddressForbidden(Exception):
    """Nothing is sent to this address; the message says why and what would be accepted."""

    code = "webhook.address_forbidden"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one request. `status` is 0 when there was no answer."""

    status: int = 0
    reason: str = ""
    """One sentence for the operator; empty when it was delivered."""
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    scheme: str
    host: str
    port: int
    path: str
    trusted: bool


def post(
    *,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    deadline: timedelta,
    allowed_origins: Collection[str] = (),
) -> Receipt:
    """Send once; everything, resolving included, has `deadline`. Never raises.

    `allowed_origins` are such as "http://127.0.0.1:9000": they may be anywhere, on any port.
    """
    try:
        place = _place(url, allowed_origins)
        admit = None if place.trusted else _admit
        with total_deadline(seconds=deadline.total_seconds(), admit=admit):
            return _exchange(place, body, headers)
    except AddressForbidden as error:
        return Receipt(reason=str(error))
    except (HTTPError, OSError, ValueError) as error:
        return Receipt(reason=f"No answer: {type(error).__name__}: {error}"[:500])


def check_url(*, url: str, allowed_origins: Collection[str] = ()) -> None:
    """Raise AddressForbidden when `post` would refuse the address as it looks at this moment.

    A name that can't be resolved now passes: it is looked at again before anything is sent.
    """
    place = _place(url, allowed_origins)
    if place.trusted:
        return
    try:
        with total_deadline(seconds=_LOOKED_UP_FOR.total_seconds()):
            addresses = resolve(host=place.host, port=place.port)
    except OSError:
        return
    for *_, address in addresses:
        _admit(address[0])


def origin_of(url: str) -> str:
    """Scheme, host and port, such as "https://hooks.example:443". Raises AddressForbidden."""
    parts = _split(url)
    return _origin(parts.scheme, str(parts.hostname), _port(parts))


def _place(url: str, allowed_origins: Collection[str]) -> _Place:
    parts = _split(url)
    host, port = str(parts.hostname), _port(parts)
    trusted = _origin(parts.scheme, host, port) in {origin_of(one) for one in allowed_origins}
    if not trusted and port not in _USUAL_PORTS:
        usual = ", ".join(str(number) for number in sorted(_USUAL_PORTS))
        raise AddressForbidden(
            f"Port {port} is not one that events are sent to ({usual}). Use one of them, or have "
            "the origin allowed."
        )
    path = parts.path or "/"
    return _Place(
        scheme=parts.scheme,
        host=host,
        port=port,
        path=f"{path}?{parts.query}" if parts.query else path,
        trusted=trusted,
    )


def _split(url: str) -> SplitResult:
    problem = AddressForbidden(
        f"{url[:200]!r} is no address for events. Give http://host/path or https://host/path in "
        "ASCII, without user, password or fragment."
    )
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in ' \\#"<>'):
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        raise problem
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _origin(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _admit(text: str) -> None:
    """Raise AddressForbidden unless it is a public unicast address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if not _is_public(address):
        raise AddressForbidden(
            f"The name leads to {address}, which is not a public address. Events are sent there "
            "only when the subscriber's origin is allowed."
        )


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            # No name has such an address by accident, and some systems route it as IPv4.
            return False
        if address in _NAT64:
            return _is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _FORBIDDEN)
    )


def _exchange(place: _Place, body: bytes, headers: Mapping[str, str]) -> Receipt:
    response = _pool(place.scheme, place.host, place.port, place.trusted).urlopen(
        "POST",
        place.path,
        body=body,
        headers={
            **headers,
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "order-engine",
        },
        retries=False,
        redirect=False,
        preload_content=False,
        decode_content=False,
    )
    ended = False
    try:
        # Only a connection whose answer has ended can be used again.
        data = response.read(_MOST_BYTES_OF_AN_ANSWER, decode_content=False)
        ended = len(data) < _MOST_BYTES_OF_AN_ANSWER
    except (HTTPError, OSError):
        pass  # the status has said it all
    finally:
        if not ended:
            response.close()
        response.release_conn()
    names = {name.lower(): value for name, value in response.headers.items()}
    return Receipt(
        status=response.status,
        reason=_reason(response.status),
        retry_after=retry_after(headers=names, now=datetime.now(UTC)),
    )


def _reason(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"It answered {status}. Redirects are not followed; give the final address."
    return f"It answered {status}."


@lru_cache(maxsize=64)
def _pool(scheme: str, host: str, port: int, trusted: bool) -> HTTPConnectionPool:
    """`trusted` keeps connections that nobody has looked at apart from the others."""
    return connection_pool(scheme=scheme, host=host, port=port, size=_KEPT_OPEN_PER_ORIGIN)
