"""Everything that is configured from outside, read once, typed, and refused loudly when wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from adapters.callback_secrets import CallbackSecrets
from adapters.signatures import key_of
from oms.mail_settings import mail_settings, sender

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_QUEUES = "inventory,provisioning,billing,payment,logistics,notification,crm"
ORCHESTRATION_QUEUE = "orchestration"
_SHORTEST_AUDIT_KEY = 32


class EnvironmentInvalid(Exception):
    """A variable has a value that can't be used; the message names it and what is accepted."""

    code = "oms.environment_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the surroundings say. URLs are empty when the servers are embedded.

    `database_pool_size` is connections per process (0: none are kept).
    """

    home: Path
    database_url: str = field(repr=False)
    database_owner_url: str = field(repr=False)
    database_pool_size: int
    redis_url: str = field(repr=False)
    secret_key: str = field(repr=False)
    audit_keys: tuple[str, ...] = field(repr=False)
    """The first one seals audit trails; what the others have sealed is still believed."""
    debug: bool
    allowed_hosts: tuple[str, ...]
    bind: str
    web_port: int
    flower_port: int
    sandbox_port: int
    sandbox_url: str
    target_queues: tuple[str, ...]
    public_url: str
    fast_path: bool
    scanner: bool
    incident_cases: int
    """So many open cases with one cause are an incident."""
    schedules: Path | None
    """The file of scheduled jobs; None: there are none."""
    high_value: Mapping[str, Decimal]
    """By currency, from what sum on an order is of high value; "" is for every other currency."""
    flower_url: str
    """Where people reach Flower; empty: at its port, on the host by which they came."""
    flower_password: str = field(repr=False)
    callback_secrets: CallbackSecrets
    webhook_allowed_origins: tuple[str, ...]
    email: Mapping[str, Any] = field(repr=False)
    """Django's mail settings."""
    email_from: str

    @property
    def embedded_database(self) -> bool:
        return not self.database_url

    @property
    def embedded_redis(self) -> bool:
        return not self.redis_url


def read_environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read and check every variable. Raises EnvironmentInvalid."""
    given = os.environ if variables is None else variables
    web_port = _port(given, "OMS_WEB_PORT", 8000)
    flower_port = _port(given, "OMS_FLOWER_PORT", 5555)
    sandbox_port = _port(given, "OMS_SANDBOX_PORT", 8700)
    if len({web_port, flower_port, sandbox_port}) < 3:
        raise EnvironmentInvalid(
            "OMS_WEB_PORT, OMS_FLOWER_PORT and OMS_SANDBOX_PORT must differ; they are "
            f"{web_port}, {flower_port} and {sandbox_port}."
        )
    database_url = _secret(given, "DATABASE_URL")
    owner_url = _secret(given, "DATABASE_OWNER_URL")
    if owner_url and not database_url:
        raise EnvironmentInvalid(
            "DATABASE_OWNER_URL is set without DATABASE_URL. Set both for an external "
            "PostgreSQL, or neither for the embedded one."
        )
    home = Path(given.get("OMS_HOME") or CHECKOUT / ".oms").expanduser().absolute()
    return Environment(
        home=home,
        database_url=_database(database_url, "DATABASE_URL"),
        database_owner_url=_database(owner_url or database_url, "DATABASE_OWNER_URL"),
        database_pool_size=_number(given, "OMS_DATABASE_POOL_SIZE", 32, at_most=1000),
        redis_url=_redis(_secret(given, "REDIS_URL")),
        secret_key=_secret(given, "OMS_SECRET_KEY"),
        audit_keys=_audit_keys(given),
        debug=_flag(given, "OMS_DEBUG", default=False),
        allowed_hosts=_names(given, "OMS_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]"),
        bind=_address(given, "OMS_BIND", "127.0.0.1"),
        web_port=web_port,
        flower_port=flower_port,
        sandbox_port=sandbox_port,
        sandbox_url=_web_address(
            given, "OMS_SANDBOX_URL", f"http://127.0.0.1:{sandbox_port}", "this one reaches it"
        ),
        target_queues=_queues(given),
        public_url=_web_address(
            given,
            "OMS_PUBLIC_URL",
            f"http://127.0.0.1:{web_port}",
            "the target systems reach this one",
        ),
        fast_path=_flag(given, "OMS_FAST_PATH", default=True),
        scanner=_flag(given, "OMS_SCANNER", default=True),
        incident_cases=_number(given, "OMS_INCIDENT_CASES", 3, at_least=2, at_most=100_000),
        schedules=_schedules(given),
        high_value=_amounts(given, "OMS_HIGH_VALUE", "10000"),
        flower_url=_web_address(given, "OMS_FLOWER_URL", "", "people's browsers reach it"),
        flower_password=_secret(given, "OMS_FLOWER_PASSWORD"),
        callback_secrets=_callback_secrets(given),
        webhook_allowed_origins=_origins(given, "OMS_WEBHOOK_ALLOWED_ORIGINS"),
        email=_email(given, home),
        email_from=_sender(given),
    )


def django_database(url: str) -> dict[str, Any]:
    """The URL as Django's connection settings; a socket folder goes into `?host=`."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.pop("host", "") or unquote(parts.hostname or "")
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": query.pop("user", "") or unquote(parts.username or ""),
        "PASSWORD": query.pop("password", "") or unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or query.pop("port", "")),
    }
    if query:
        settings["OPTIONS"] = dict(query)
    return settings


def _secret(given: Mapping[str, str], name: str) -> str:
    """The variable, or the content of the file that `<name>_FILE` names."""
    path = given.get(f"{name}_FILE")
    if not path:
        return given.get(name, "")
    if given.get(name):
        raise EnvironmentInvalid(f"Both {name} and {name}_FILE are set; keep one of them.")
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise EnvironmentInvalid(f"{name}_FILE can't be read: {error}.") from error


def _audit_keys(given: Mapping[str, str]) -> tuple[str, ...]:
    keys = tuple(re.split(r"[,\s]+", _secret(given, "OMS_AUDIT_KEY").strip(", \n")))
    if keys == ("",):
        return ()
    if any(len(key) < _SHORTEST_AUDIT_KEY for key in keys):
        raise EnvironmentInvalid(
            f"OMS_AUDIT_KEY holds a key of fewer than {_SHORTEST_AUDIT_KEY} characters. Make one "
            "with `openssl rand -base64 36`; to change it, put the new one before the old one, "
            "with a comma between them."
        )
    if len(set(keys)) < len(keys):
        raise EnvironmentInvalid("OMS_AUDIT_KEY names a key twice; name each once.")
    return keys


def _database(url: str, name: str) -> str:
    if url and urlsplit(url).scheme not in ("postgres", "postgresql"):
        raise EnvironmentInvalid(
            f"{name} must be postgres://user:password@host:port/name or "
            "postgres:///name?host=/socket/folder&user=…; PostgreSQL is the only database."
        )
    if url and not urlsplit(url).path.lstrip("/"):
        raise EnvironmentInvalid(f"{name} names no database; add /name to its path.")
    return url


def _redis(url: str) -> str:
    if url and urlsplit(url).scheme not in ("redis", "rediss", "redis+socket"):
        raise EnvironmentInvalid(
            "REDIS_URL must be redis://host:port/0, rediss://… or "
            "redis+socket:///path/to/socket?virtual_host=0."
        )
    return url


def _names(given: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    names = [part.strip() for part in (given.get(name) or default).split(",")]
    if not all(names):
        raise EnvironmentInvalid(
            f"{name} is {given[name]!r}; use names with single commas between them."
        )
    return tuple(names)


def _queues(given: Mapping[str, str]) -> tuple[str, ...]:
    queues = _names(given, "OMS_TARGET_QUEUES", DEFAULT_QUEUES)
    for queue in queues:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", queue) or queue == ORCHESTRATION_QUEUE:
            raise EnvironmentInvalid(
                f"OMS_TARGET_QUEUES holds {queue!r}; use letters, digits, - and _, and not "
                f"{ORCHESTRATION_QUEUE!r}, which is the engine's own."
            )
    if len(set(queues)) < len(queues):
        raise EnvironmentInvalid("OMS_TARGET_QUEUES names a queue twice; name each once.")
    return queues


def _address(given: Mapping[str, str], name: str, default: str) -> str:
    value = given.get(name) or default
    try:
        return str(IPv4Address(value))
    except AddressValueError:
        raise EnvironmentInvalid(
            f"{name} is {value!r}; use an IPv4 address, such as 127.0.0.1 for this machine only "
            "or 0.0.0.0 for all its networks."
        ) from None


def _web_address(given: Mapping[str, str], name: str, default: str, seen_by: str) -> str:
    url = given.get(name) or default
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EnvironmentInvalid(
            f"{name} is {url!r}; use http://host:port or https://host, as {seen_by}."
        )
    return url.rstrip("/")


def _origins(given: Mapping[str, str], name: str) -> tuple[str, ...]:
    if not given.get(name):
        return ()
    origins = _names(given, name, "")
    for origin in origins:
        try:
            parts = urlsplit(origin)
            valid = parts.port != 0 and parts.hostname and "@" not in parts.netloc
        except ValueError:
            valid = False
        if (
            not valid
            or origin != f"{parts.scheme}://{parts.netloc}"
            or parts.scheme
            not in (
                "http",
                "https",
            )
        ):
            raise EnvironmentInvalid(
                f"{name} holds {origin!r}; use origins such as http://receiver:9000 with commas "
                "between them: scheme, host and port, without a path."
            )
    return origins


def _callback_secrets(given: Mapping[str, str]) -> CallbackSecrets:
    secrets = CallbackSecrets.read(names=given, look_up=lambda name: _secret(given, name))
    for name, secret in secrets.by_variable.items():
        if not key_of(secret):
            raise EnvironmentInvalid(
                f"{name} begins with whsec_, but what follows is not the base64 of a key. Copy "
                "the secret anew, whole."
            )
    return secrets


def _email(given: Mapping[str, str], home: Path) -> dict[str, Any]:
    try:
        return mail_settings(url=_secret(given, "OMS_EMAIL_URL"), home=home)
    except ValueError as error:
        raise EnvironmentInvalid(f"OMS_EMAIL_URL can't be used: {error}.") from None


def _sender(given: Mapping[str, str]) -> str:
    try:
        return sender(given.get("OMS_EMAIL_FROM") or "Orders <orders@localhost>")
    except ValueError as error:
        raise EnvironmentInvalid(
            f"OMS_EMAIL_FROM is {given['OMS_EMAIL_FROM']!r}; {error}."
        ) from None


def _schedules(given: Mapping[str, str]) -> Path | None:
    value = given.get("OMS_SCHEDULES") or str(CHECKOUT / "templates" / "schedules.yaml")
    return None if value == "off" else Path(value).expanduser().absolute()


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = (given.get(name) or "").strip().lower()
    if not value:
        return default
    if value in ("on", "true", "yes", "1"):
        return True
    if value in ("off", "false", "no", "0"):
        return False
    raise EnvironmentInvalid(f"{name} is {value!r}; use on or off.")


def _amounts(given: Mapping[str, str], name: str, default: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for one in _names(given, name, default):
        matched = re.fullmatch(r"(?:([A-Z]{3}) *)?([0-9]{1,15}(?:\.[0-9]{1,4})?)", one)
        if not matched or Decimal(matched[2]) == 0 or (matched[1] or "") in found:
            raise EnvironmentInvalid(
                f"{name} holds {one!r}; use amounts above zero with commas between them, each "
                "currency once, such as EUR 10000, JPY 1500000; one without a currency is for "
                "every other."
            )
        found[matched[1] or ""] = Decimal(matched[2])
    return found


def _port(given: Mapping[str, str], name: str, default: int) -> int:
    return _number(given, name, default, at_least=1, at_most=65535)


def _number(
    given: Mapping[str, str], name: str, default: int, *, at_least: int = 0, at_most: int
) -> int:
    value = (given.get(name) or "").strip()
    if not value:
        return default
    if not re.fullmatch("[0-9]{1,9}", value) or not at_least <= int(value) <= at_most:
        raise EnvironmentInvalid(
            f"{name} is {value!r}; use a whole number from {at_least} to {at_most}."
        )
    return int(value)
