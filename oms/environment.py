"""Everything that is configured from outside, read once, typed, and refused loudly when wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_QUEUES = "inventory,provisioning,billing,payment,logistics,notification,crm"
ORCHESTRATION_QUEUE = "orchestration"


class EnvironmentInvalid(Exception):
    """A variable has a value that can't be used; the message names it and what is accepted."""

    code = "oms.environment_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the surroundings say. URLs are empty when the servers are embedded."""

    home: Path
    database_url: str
    database_owner_url: str
    redis_url: str
    secret_key: str
    debug: bool
    allowed_hosts: tuple[str, ...]
    bind: str
    web_port: int
    flower_port: int
    sandbox_port: int
    target_queues: tuple[str, ...]
    public_url: str
    fast_path: bool
    scanner: bool

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
    bind = given.get("OMS_BIND") or "127.0.0.1"
    database_url = _secret(given, "DATABASE_URL")
    queues = tuple(
        name.strip()
        for name in (given.get("OMS_TARGET_QUEUES") or DEFAULT_QUEUES).split(",")
        if name.strip()
    )
    for name in queues:
        if not name.replace("-", "").replace("_", "").isalnum() or name == ORCHESTRATION_QUEUE:
            raise EnvironmentInvalid(
                f"OMS_TARGET_QUEUES holds {name!r}; use letters, digits, - and _, and not "
                f"{ORCHESTRATION_QUEUE!r}, which is the engine's own."
            )
    return Environment(
        home=Path(given.get("OMS_HOME") or CHECKOUT / ".oms").absolute(),
        database_url=_database(database_url, "DATABASE_URL"),
        database_owner_url=_database(
            _secret(given, "DATABASE_OWNER_URL") or database_url, "DATABASE_OWNER_URL"
        ),
        redis_url=_redis(_secret(given, "REDIS_URL")),
        secret_key=_secret(given, "OMS_SECRET_KEY"),
        debug=_flag(given, "OMS_DEBUG", default=False),
        allowed_hosts=tuple(
            host.strip()
            for host in (given.get("OMS_ALLOWED_HOSTS") or "localhost,127.0.0.1,[::1]").split(",")
        ),
        bind=bind,
        web_port=web_port,
        flower_port=_port(given, "OMS_FLOWER_PORT", 5555),
        sandbox_port=_port(given, "OMS_SANDBOX_PORT", 8700),
        target_queues=queues,
        public_url=(given.get("OMS_PUBLIC_URL") or f"http://127.0.0.1:{web_port}").rstrip("/"),
        fast_path=_flag(given, "OMS_FAST_PATH", default=True),
        scanner=_flag(given, "OMS_SCANNER", default=True),
    )


def django_database(url: str) -> dict[str, object]:
    """The URL as Django's connection settings; a socket folder goes into `?host=`."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.pop("host", "") or unquote(parts.hostname or "")
    settings: dict[str, object] = {
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


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    value = (given.get(name) or "").strip().lower()
    if not value:
        return default
    if value in ("on", "true", "yes", "1"):
        return True
    if value in ("off", "false", "no", "0"):
        return False
    raise EnvironmentInvalid(f"{name} is {value!r}; use on or off.")


def _port(given: Mapping[str, str], name: str, default: int) -> int:
    value = (given.get(name) or "").strip()
    if not value:
        return default
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise EnvironmentInvalid(f"{name} is {value!r}; use a port from 1 to 65535.")
    return int(value)
