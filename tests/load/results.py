"""The results document: one entry per part, what was measured with what, and where it is kept."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from oms.environment import CHECKOUT

FOLDER = CHECKOUT / "benchmarks" / "results"
LATEST = "latest.json"
_FORMAT = 1
_PACKAGES = ("celery", "django", "django-fsm-2", "gunicorn", "kombu", "psycopg", "redis")


def merged(
    document: Mapping[str, Any], *, part: str, figures: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The document with this part's figures in place of its older ones. Pure.

    `about` says when and with what; it stands beside the figures of the part, because parts may
    be measured on different days. A document of another format is begun anew.
    """
    kept = dict(document) if document.get("format") == _FORMAT else {}
    return {**kept, "format": _FORMAT, part: {**figures, **about}}


def about(*, now: datetime, settings: Mapping[str, Any], load: float) -> dict[str, Any]:
    """When, with which sizes and versions, and on how many processors.

    `load` is the machine's load average when the part began: what else it was doing.
    """
    return {
        "measured_at": now.isoformat(timespec="seconds"),
        "sizes": dict(settings),
        "machine": {"cpus": len(os.sched_getaffinity(0)), "load_before": round(load, 2)},
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
    }


def read(folder: Path) -> dict[str, Any]:
    """What was measured before; empty when nothing was."""
    try:
        found = json.loads((folder / LATEST).read_text())
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def write(folder: Path, document: Mapping[str, Any]) -> Path:
    """Replace the file at once: whoever reads it meanwhile sees the old one or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LATEST
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    draft.replace(path)
    return path
