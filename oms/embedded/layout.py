"""Where the embedded servers keep their files, as whom they run, and how to reach them.

PostgreSQL refuses to run as root, so a stack that root starts drops to another user. That user
may not reach the checkout (root's home is closed to others); then data, sockets and a copy of
the binaries go to a private folder outside. No existing folder's mode is ever changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from oms.environment import Environment, EnvironmentInvalid

_LONGEST_SOCKET_FOLDER = 80
"""A socket's path must stay under 108 bytes, its name included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Folders of one stack. `user` is None when the servers run as whoever starts them."""

    home: Path
    servers: Path
    sockets: Path
    user: pwd.struct_passwd | None

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets"

    @property
    def postgres_data(self) -> Path:
        return self.servers / "postgres"

    @property
    def redis_socket(self) -> Path:
        return self.sockets / "redis.sock"

    def database_url(self, *, user: str, database: str = "oms") -> str:
        return f"postgres:///{database}?host={quote(str(self.sockets), safe='')}&user={user}"

    @property
    def redis_url(self) -> str:
        return f"redis+socket://{self.redis_socket}?virtual_host=0"


def layout_of(home: Path) -> Layout:
    """The layout that belongs to `home`; the same for every process of the stack."""
    user = _server_user()
    private = Path("/var/tmp") / f"oms-{_digest(home)}"  # noqa: S108 (0700, owner checked)
    servers = home / "servers"
    if user is not None and not reachable(home, user):
        servers = private
    sockets = servers / "sockets"
    if len(str(sockets)) > _LONGEST_SOCKET_FOLDER:
        sockets = private / "sockets"
    return Layout(home=home, servers=servers, sockets=sockets, user=user)


def resolve(environment: Environment) -> Environment:
    """Fill in what embedded servers leave open: their URLs and a generated secret key.

    Raises EnvironmentInvalid when external servers are used without OMS_SECRET_KEY.
    """
    layout = layout_of(environment.home)
    secret_key = environment.secret_key
    if not secret_key:
        if not environment.embedded_database:
            raise EnvironmentInvalid(
                "OMS_SECRET_KEY is not set. With an external database it must be: any long "
                "random text, the same for every process."
            )
        secret_key = generated_secret(layout, "secret-key")
    database_url, owner_url = environment.database_url, environment.database_owner_url
    if environment.embedded_database:
        database_url = layout.database_url(user="oms_app")
        owner_url = layout.database_url(user="oms_owner")
    return replace(
        environment,
        database_url=database_url,
        database_owner_url=owner_url,
        redis_url=environment.redis_url or layout.redis_url,
        secret_key=secret_key,
    )


def generated_secret(layout: Layout, name: str) -> str:
    """A secret that is made once per stack and kept in a file that only its owner reads."""
    path = layout.secrets / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    layout.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    value = secrets.token_urlsafe(36)
    # Written under another name first: of two processes that start together, one wins whole.
    draft = path.with_name(f".{name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(value)
    try:
        os.link(draft, path)
    except FileExistsError:
        value = path.read_text().strip()
    finally:
        draft.unlink()
    return value


def reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user`, who is in no group of ours, may walk down to `path`."""
    for folder in (*reversed(path.parents), path):
        try:
            status = folder.stat()
        except FileNotFoundError:
            return True  # We make the rest, and make it passable.
        allowed = stat.S_IXUSR if status.st_uid == user.pw_uid else stat.S_IXOTH
        if not status.st_mode & allowed:
            return False
    return True


def own_folder(path: Path, user: pwd.struct_passwd | None, mode: int) -> None:
    """Make a folder for the servers' user. Refuses one that somebody else has put there."""
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise EnvironmentInvalid(f"{path} is a symbolic link; remove it, or set another OMS_HOME.")
    expected = {os.getuid(), user.pw_uid} if user is not None else {os.getuid()}
    if path.stat().st_uid not in expected:
        raise EnvironmentInvalid(f"{path} belongs to somebody else; set another OMS_HOME.")
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
    path.chmod(mode)


def _server_user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in ("nobody", "daemon", "www-data"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EnvironmentInvalid(
        "PostgreSQL can't run as root, and there is no user nobody, daemon or www-data to run it "
        "as. Start the stack as an ordinary user."
    )


def _digest(home: Path) -> str:
    return hashlib.sha256(str(home).encode()).hexdigest()[:12]
