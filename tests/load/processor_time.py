"""Processor time that the processes of a stack have used, read from the kernel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from oms.embedded import postgres, redis
from tests.load.stacks import BenchStack

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
_PARENT, _OWN, _REAPED = 1, slice(11, 13), slice(13, 15)
"""Where in /proc/PID/stat, behind the name in brackets, these stand."""


def used_ms(stack: BenchStack) -> dict[str, float]:
    """Milliseconds so far by kind of process: workers, orchestration, web, sandbox, servers.

    Servers that are not ours to see are left out.
    """
    stats = _stats()
    roots: dict[str, list[int]] = {}
    for name in stack.names:
        kind = "workers" if name.startswith("worker-") else name
        roots.setdefault(kind, []).append(stack.pid(name) or 0)
    for name, server in (("postgres", postgres), ("redis", redis)):
        if (pid := server.running_pid(stack.layout)) is not None:
            roots[name] = [pid]
    return {name: sum(_of_tree(pid, stats) for pid in pids) for name, pids in roots.items()}


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was used by each kind from one look to the other."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _stats() -> dict[int, list[str]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended meanwhile.
    return found


def _of_tree(pid: int, stats: Mapping[int, list[str]]) -> float:
    """Its own time, that of children which have ended, and that of those which run."""
    if pid not in stats:
        return 0.0
    words = stats[pid]
    ticks = sum(map(int, [*words[_OWN], *words[_REAPED]]))
    children = [child for child, words in stats.items() if int(words[_PARENT]) == pid]
    return ticks * _TICK_MS + sum(_of_tree(child, stats) for child in children)
