"""Where the embedded servers keep their files, as whom they run, and how to reach them.

PostgreSQL refuses to run as root, so a stack that root starts drops to another user. That user
may not reach the checkout (root's home is closed to others); then data, sockets and a copy of
the binaries go to a private folder outside. No existing folder's mode is ever changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from oms.environment import Environment, EnvironmentInvalid

_LONGEST_SOCKET_FOLDER = 80
"""A socket's path must stay under 108 bytes, its name included."""
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
"""Paths that may stand in a URL as they are."""


class ServerFailed(Exception):
    """An embedded server can't be started or stopped; the message says why or names its log."""

    code = "oms.embedded_server_failed"


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
    def postgres_folder(self) -> Path:
        return self.servers / "postgres"

    @property
    def postgres_data(self) -> Path:
        return self.postgres_folder / "data"

    @property
    def redis_folder(self) -> Path:
        return self.servers / "redis"

    @property
    def redis_socket(self) -> Path:
        return self.sockets / "redis.sock"

    def database_url(self, *, user: str, database: str = "oms") -> str:
        return f"postgresql:///{database}?host={self.sockets}&user={user}"

    def redis_url(self, *, database: int = 0) -> str:
        return f"redis+socket://{self.redis_socket}?virtual_host={database}"


def layout_of(home: Path) -> Layout:
    """The layout that belongs to `home`; the same for every process of the stack."""
    user = _server_user()
    # Not /tmp for root: what lies there may be cleaned away, and this is the database.
    outside = Path("/var/tmp" if user is None else "/var/lib")  # noqa: S108 (owner checked)
    private = outside / f"oms-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    servers = home / "servers"
    if user is not None and not reachable(home, user):
        servers = private
    sockets = servers / "sockets"
    if len(os.fsencode(sockets)) > _LONGEST_SOCKET_FOLDER or not _PLAIN.fullmatch(str(sockets)):
        sockets = private / "sockets"
    return Layout(home=home, servers=servers, sockets=sockets, user=user)


def prepare_home(layout: Layout) -> None:
    """Make the folders that every stack has. Raises EnvironmentInvalid."""
    make_home(layout.home)
    for folder in (layout.run, layout.logs):
        folder.mkdir(exist_ok=True)


def prepare_servers(layout: Layout) -> None:
    """Make the folders that embedded servers share. Raises EnvironmentInvalid."""
    prepare_home(layout)
    for folder in (layout.servers, layout.sockets.parent, layout.sockets):
        own_folder(folder, layout.user)


def resolve(environment: Environment) -> Environment:
    """Fill in what embedded servers leave open: their URLs and generated secrets.

    Raises EnvironmentInvalid when external servers are used without OMS_SECRET_KEY or
    OMS_AUDIT_KEY.
    """
    layout = layout_of(environment.home)
    embedded = environment.embedded_database
    if not embedded and not environment.secret_key:
        raise EnvironmentInvalid(
            "OMS_SECRET_KEY is not set. With an external database it must be: any long "
            "random text, the same for every process."
        )
    if not embedded and not environment.audit_keys:
        raise EnvironmentInvalid(
            "OMS_AUDIT_KEY is not set. With an external database it must be: it seals the audit "
            "trails, and whoever looks after the database must not know it. Make one with "
            "`openssl rand -base64 36`; the same for every process."
        )
    return replace(
        environment,
        database_url=environment.database_url or layout.database_url(user="oms_app"),
        database_owner_url=environment.database_owner_url or layout.database_url(user="oms_owner"),
        redis_url=environment.redis_url or layout.redis_url(),
        secret_key=environment.secret_key or generated_secret(layout, "secret-key"),
        audit_keys=environment.audit_keys or (generated_secret(layout, "audit-key"),),
        callback_secrets=environment.callback_secrets.or_shared(
            generated_secret(layout, "callback-secret") if embedded else ""
        ),
        flower_password=environment.flower_password
        or (generated_secret(layout, "flower-password") if embedded else ""),
    )


def generated_secret(layout: Layout, name: str) -> str:
    """A secret that is made once per stack and kept in a file that only its owner reads."""
    path = layout.secrets / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    make_home(layout.home)
    layout.secrets.mkdir(exist_ok=True, mode=0o700)
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


def make_home(home: Path) -> None:
    """Folders that we make ourselves stay passable for the servers' user, whatever the umask."""
    try:
        for folder in (*reversed(home.parents), home):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)
        writable = os.access(home, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        raise EnvironmentInvalid(f"{home} can't be written to; set OMS_HOME to a folder of yours.")


def own_folder(path: Path, user: pwd.struct_passwd | None) -> None:
    """Make a closed folder for the servers' user. Refuses one that somebody else has put there."""
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    owner = user.pw_uid if user is not None else os.getuid()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.getuid()):
        raise EnvironmentInvalid(
            f"{path} belongs to somebody else, or is not a folder. Start the stack as the user "
            "who made it, or set another OMS_HOME."
        )
    if status.st_mode & 0o077:
        path.chmod(0o700)
    if user is not None and status.st_uid != owner:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def own_tree(path: Path, user: pwd.struct_passwd) -> None:
    for folder, _, files in os.walk(path):
        for name in (folder, *(os.path.join(folder, file) for file in files)):
            os.chown(name, user.pw_uid, user.pw_gid, follow_symlinks=False)


def package(name: str, *, instead: str) -> Path:
    """The folder of an installed package that carries binaries. Raises ServerFailed."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ServerFailed(
            f"The package {name} is not installed, so nothing can be embedded. Install "
            f"requirements/dev.txt, or set {instead} to a server of your own."
        )
    return Path(next(iter(found.submodule_search_locations)))


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
