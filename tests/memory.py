"""Where tests keep their servers' files: in memory, where the machine has enough of it.

A run makes and drops a thousand databases, each of a thousand files, and copies whole servers.
Where a file system looks longer for a free place the more has just been deleted (ext4 without a
journal does), that is most of what such a test costs. Nothing here has to outlive the machine.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oms.embedded.layout import layout_of
from oms.embedded.servers import Servers
from oms.environment import CHECKOUT, read_environment
from oms.supervisor.processes import stop_leftovers

_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 8 << 30
"""Free, before any of it is used: two runs beside each other take less than half of it."""


def place() -> Path | None:
    """This checkout's folder in memory, which every user may walk through; None where it is tight.

    It stays after a run, with the migrated schema in it; `make clean` deletes it.
    """
    folder = path()
    try:
        if not folder.exists() and _free_bytes() < _ENOUGH_BYTES:
            return None
        folder.mkdir(exist_ok=True)
        status = folder.lstat()
        # Everybody may write where it lies, so somebody else may have put it there.
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return None
        folder.chmod(0o755)
    except OSError:
        return None
    return folder


def path() -> Path:
    """Where that folder is, or would be."""
    name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:8]
    return _MEMORY / f"oms-test-{os.getuid()}-{name}"


@contextmanager
def a_folder(*, otherwise: Path) -> Iterator[Path]:
    """A new folder in memory that is gone at the end; `otherwise` where there is no room."""
    around = place()
    if around is None:
        yield otherwise
        return
    made = Path(tempfile.mkdtemp(dir=around, prefix=""))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def clear(home: Path) -> bool:
    """End and delete what a home's servers and processes have left; False while it is in use."""
    layout = layout_of(home)
    stop_leftovers(layout.run)
    idle = Servers(environment=read_environment({"OMS_HOME": str(home)})).stop_leftovers()
    if idle:
        for folder in {layout.servers, layout.sockets.parent}:
            shutil.rmtree(folder, ignore_errors=True)
    return idle


def clean() -> None:
    """Give the memory back; what a killed run has left in it ends first."""
    around = path()
    homes = [run.parent for pattern in ("run", "*/run", "*/*/run") for run in around.glob(pattern)]
    idle = [clear(home) for home in homes]
    if all(idle):
        shutil.rmtree(around, ignore_errors=True)


def _free_bytes() -> int:
    """What is free there, for the machine as a whole, and for the group that we are held in."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    free = [shutil.disk_usage(_MEMORY).free, int(found[1]) * 1024 if found else 0]
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists():
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            free.append(int(most) - int((group / "memory.current").read_text()))
    return min(free)


if __name__ == "__main__":
    clean()
