"""Processes that are no part of our stack: started for one side, ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from oms.environment import CHECKOUT
from tests.load.stacks import BenchStack

_END_SECONDS = 20.0


@contextmanager
def started(
    command: Sequence[str],
    *,
    stack: BenchStack,
    name: str,
    variables: Mapping[str, str] | None = None,
    talking: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """The running process; its output goes to the stack's logs.

    With `talking` its input and output are pipes of text lines instead.
    """
    with (stack.layout.logs / f"bench-{name}.log").open("ab") as output:
        running = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **(variables or {})},
            cwd=CHECKOUT,
            start_new_session=True,
            text=True,
            stdin=subprocess.PIPE if talking else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talking else output,
            stderr=output,
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
