"""The desk's processes by the hundred: forks of one that has read all the code.

To start is most of what such a process costs. Each fork is a process of its own, with connections
of its own, and dies by itself; the one that it comes from has none and never dies. Settings are
read from the environment as ever, so there is one to fork from for each environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from oms.environment import CHECKOUT

_MOST = 3
"""So many are kept to fork from, those that were asked for last."""
_OF_THE_JOB = frozenset({"OMS_FAILPOINTS", "OMS_FAILPOINTS_RUN", "DESK_CLOCK_SECONDS"})
_OF_NOBODY = frozenset({"PYTEST_CURRENT_TEST"})

Ended = subprocess.CompletedProcess[str]


class Nursery:
    """Performs the verbs of `tests.crash.desk_worker`, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parents: OrderedDict[str, subprocess.Popen[str]] = OrderedDict()

    def perform(self, arguments: Sequence[str], *, environment: Mapping[str, str]) -> Ended:
        """How it ended, and what it said, as if `python -m tests.crash.desk_worker` had run."""
        job = {
            "arguments": list(arguments),
            "variables": {k: v for k, v in environment.items() if k in _OF_THE_JOB},
            "stdout": str(self._folder / "stdout"),
            "stderr": str(self._folder / "stderr"),
        }
        parent = self._parent({k: v for k, v in environment.items() if k not in _OF_THE_JOB})
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(json.dumps(job) + "\n")
        parent.stdin.flush()
        code = int(parent.stdout.readline())
        said = (Path(job[name]).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(list(arguments), code, *said)

    def _parent(self, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        kept = {k: v for k, v in environment.items() if k not in _OF_NOBODY}
        name = json.dumps(kept, sort_keys=True)
        if name not in self._parents:
            while len(self._parents) >= _MOST:
                _end(self._parents.popitem(last=False)[1])
            self._parents[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.desk_worker", "serve"],
                cwd=CHECKOUT,
                env=kept,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._parents.move_to_end(name)
        return self._parents[name]

    def close(self) -> None:
        while self._parents:
            _end(self._parents.popitem()[1])


def _end(parent: subprocess.Popen[str]) -> None:
    parent.kill()
    parent.communicate()
