"""Whole stacks of a test's own. What all of them begin with is made once, and copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from oms.embedded.layout import Layout, layout_of, own_tree, prepare_servers
from oms.environment import read_environment
from oms.management.commands.stack import prepare
from oms.supervisor.stack import Stack, with_free_ports


def made_ready(home: Path) -> Layout:
    """Where a home's servers lie that have been initialised, migrated, loaded, and stopped."""
    stack = Stack(with_free_ports(read_environment({"OMS_HOME": str(home)})))
    try:
        stack.start_servers()
        prepare(stack, say=lambda _: None)
    finally:
        stack.stop_servers()
    return stack.layout


@contextmanager
def servers_like(model: Layout, *, home: Path, **environment: Any) -> Iterator[Stack]:
    """A stack whose servers run, with what those of `model` hold; no process of it is started."""
    copy(model, layout_of(home))
    named = with_free_ports(read_environment({"OMS_HOME": str(home)}))
    stack = Stack(replace(named, **environment))
    try:
        stack.start_servers()
        yield stack
    finally:
        for name in stack.names:
            if stack.pid(name) is not None:
                stack.kill(name)
        stack.stop()
        stack.stop_servers()


def copy(model: Layout, layout: Layout) -> None:
    """What the servers of `model` hold and its secrets, for servers that have not started yet."""
    prepare_servers(layout)
    shutil.copytree(model.secrets, layout.secrets)
    shutil.copytree(model.postgres_folder, layout.postgres_folder, symlinks=True)
    if layout.user is not None:
        own_tree(layout.postgres_folder, layout.user)
