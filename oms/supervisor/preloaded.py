"""A process that loads Django and Celery once and becomes the stack's programs by forking.

Eleven Python processes that each import the same code take many seconds of a small machine; a
fork of one that has done it takes milliseconds. It runs a single thread and opens no
connection, so a fork inherits nothing that could be shared by mistake.

It talks with the supervisor over a socket, one JSON message each: `{"run": program}` is answered
by `{"pid": …}`; `{"loaded": true}` and `{"ended": pid, "code": …}` come unasked. When the
supervisor is gone, it ends its children and itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from oms.supervisor.processes import end_with_parent, kill_group, name_process

MESSAGE_BYTES = 65536
_END_SECONDS = 10.0
_children: set[int] = set()


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    _load()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(channel))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    channel.send(json.dumps({"loaded": True}).encode())
    try:
        while message := channel.recv(MESSAGE_BYTES):
            pid = _fork(channel, json.loads(message)["run"])
            _children.add(pid)
            _reap(channel)  # It may have ended before it was in the set.
            channel.send(json.dumps({"pid": pid}).encode())
    finally:
        _end_children()


def _load() -> None:
    import django

    django.setup()
    import gunicorn.app.wsgiapp
    import gunicorn.workers.gthread  # noqa: F401 (loaded here so that forks need not)

    import oms.wsgi  # noqa: F401
    from oms.celery import app

    app.finalize()
    app.loader.import_default_modules()
    if threading.active_count() != 1:
        raise RuntimeError(f"Forking needs a single thread; there are {threading.enumerate()}.")


def _fork(channel: socket.socket, program: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(parent, channel, program)
    finally:
        os._exit(70)


def _become(parent: int, channel: socket.socket, program: dict[str, Any]) -> NoReturn:
    """In the fork: a session, signals, output and arguments of its own, then the program."""
    channel.close()
    os.setsid()
    end_with_parent()
    if os.getppid() != parent:
        os._exit(0)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    _children.clear()
    name_process(program["name"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(program["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, destination in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, destination)
    os.close(nothing)
    os.close(log)
    os.environ.update(program["variables"])
    sys.argv = list(program["command"])
    code = 1
    try:
        code = _run(program["command"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(command: list[str]) -> int:
    if command[0] == "gunicorn":
        from gunicorn.app.wsgiapp import WSGIApplication

        WSGIApplication(prog="gunicorn").run()
        return 0
    if command[0] == "manage.py":
        from django.core.management import execute_from_command_line

        execute_from_command_line(command)
        return 0
    from oms.celery import app

    return int(app.start(argv=command[1:]) or 0)


def _reap(channel: socket.socket) -> None:
    for child in tuple(_children):
        try:
            pid, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            continue  # The signal came while this loop ran, and its handler was first.
        if pid:
            _children.discard(pid)
            ended = {"ended": pid, "code": os.waitstatus_to_exitcode(status)}
            # When the supervisor is gone, the loop will see it.
            with contextlib.suppress(OSError):
                channel.send(json.dumps(ended).encode())


def _end_children() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in _children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_SECONDS
    while _children and time.monotonic() < deadline:
        for pid in tuple(_children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                _children.discard(pid)
        time.sleep(0.02)
    for pid in _children:
        kill_group(pid)


if __name__ == "__main__":
    main()
