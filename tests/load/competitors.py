"""What we are measured beside: installed on demand, each set into an environment of its own.

Nothing of it comes near our own environment: what it pins would pin us as well.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from oms.environment import CHECKOUT
from tests.load.parts import BenchFailed, Run

_KEPT = CHECKOUT / ".oms" / "competitors"


def python_of(requirements: str, *, run: Run) -> Path:
    """The interpreter of the environment with `requirements/<requirements>.txt`, by its hashes.

    Raises BenchFailed when it can't be installed.
    """
    pins = CHECKOUT / "requirements" / f"{requirements}.txt"
    home = _KEPT / requirements
    python, stamp = home / "bin" / "python", home / "installed.txt"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return python
    run.say(f"Installing {pins.name} into {home} (once) …")
    shutil.rmtree(home, ignore_errors=True)
    install = ("install", "-qq", "--disable-pip-version-check", "--require-hashes", "--no-deps")
    try:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([python, "-m", "pip", *install, "-r", str(pins)], check=True)
    except subprocess.CalledProcessError as error:
        raise BenchFailed(f"{pins.name} can't be installed; see above.") from error
    stamp.write_bytes(pins.read_bytes())
    return python


def version_of(package: str, *, python: Path) -> str:
    """The installed version of a package in that environment."""
    question = f"from importlib import metadata; print(metadata.version({package!r}))"
    return subprocess.run(
        [python, "-c", question], check=True, capture_output=True, text=True
    ).stdout.strip()
