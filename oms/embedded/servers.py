"""The embedded servers of one home, shared by whoever needs them at the moment.

A stack, a command and a test run may use the same home at once. Each holds a shared lock; the
last to leave stops the servers. The locks are the kernel's, so a killed user holds none.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType

from oms.embedded import postgres, redis
from oms.embedded.layout import Layout, layout_of, prepare_servers
from oms.environment import Environment


class Servers:
    """What is embedded according to the environment; nothing when it names external servers."""

    def __init__(self, *, environment: Environment) -> None:
        self.layout: Layout = layout_of(environment.home)
        self._modules = [
            module
            for module, embedded in (
                (postgres, environment.embedded_database),
                (redis, environment.embedded_redis),
            )
            if embedded
        ]
        self.embeds_database = environment.embedded_database
        self._use: int | None = None
        self._seen = False

    def start(self) -> None:
        """Start or adopt them. Raises EnvironmentInvalid and ServerFailed."""
        if not self._modules or self._use is not None:
            return
        prepare_servers(self.layout)
        self._use = self._open("servers.use")
        fcntl.flock(self._use, fcntl.LOCK_SH)
        try:
            self.revive()
        except BaseException:
            self.stop()
            raise

    def revive(self) -> None:
        """Start again whichever of them has died; quick when none has."""
        missing = [module for module in self._modules if module.running_pid(self.layout) is None]
        if self._use is not None and (missing or not self._seen):
            with self._changing(), ThreadPoolExecutor(2) as threads:
                list(threads.map(lambda module: module.start(self.layout), self._modules))
            self._seen = True

    def stop(self) -> None:
        """Stop them, unless somebody else uses them."""
        if self._use is None:
            return
        with self._changing():
            use, self._use = self._use, None
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                os.close(use)
            self._stop_all()

    def stop_leftovers(self) -> bool:
        """Stop servers that nobody uses any more. Returns False when somebody does."""
        if not self.layout.run.is_dir():
            return True
        with self._changing():
            use = self._open("servers.use")
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stop_all()
            except BlockingIOError:
                return False
            finally:
                os.close(use)
        return True

    def __enter__(self) -> Servers:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _stop_all(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda module: module.stop(self.layout), self._modules))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One at a time starts or stops."""
        descriptor = self._open("servers.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(self.layout.run / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
