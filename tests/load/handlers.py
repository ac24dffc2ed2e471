"""Handlers that do nothing, in process: what is left is the engine's own cost.

Each call is written down, one line in a file of its process, so that effects can be counted
afterwards by somebody else than the engine.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import lru_cache
from pathlib import Path

from adapters.contract import Command
from adapters.python_function import handler

FOLDER = "OMS_BENCH_EFFECTS"
"""The variable that names the folder of these files."""
_OUTPUTS = {
    "tenant_id": "t",
    "license_id": "l",
    "entitlement_id": "e",
    "reservation_id": "r",
    "asset_id": "a",
    "subscription_id": "s",
}


@handler(target="*", action="*")
def nothing(command: Command) -> dict[str, str]:
    os.write(_file(), f"{command.idempotency_key}\n".encode())
    return _OUTPUTS


@lru_cache(maxsize=1)
def _file() -> int:
    path = Path(os.environ[FOLDER]) / f"{os.getpid()}.keys"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def effects(folder: Path) -> Counter[str]:
    """How often each idempotency key had an effect, over all processes that have written here."""
    return Counter(line for path in folder.glob("*.keys") for line in path.read_text().splitlines())
