"""`manage.py stack up|exec|down|status|clean`: the processes of one stack on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from argparse import REMAINDER
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from oms.embedded import postgres, redis
from oms.embedded.layout import generated_secret
from oms.environment import CHECKOUT, read_environment
from oms.supervisor.processes import running, stop_leftovers
from oms.supervisor.stack import Stack, StackFailed

_LOOK_SECONDS = 0.5


class Command(BaseCommand):
    help = "Start, stop and look at the stack: servers, web, workers, beat, Flower, sandbox."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("up", help="start everything and stay; Ctrl-C stops all of it")
        run = verbs.add_parser("exec", help="start the embedded servers, run a command, stop them")
        run.add_argument("--no-migrate", action="store_true", help="leave the schema as it is")
        run.add_argument("command", nargs=REMAINDER, help="after --, as it would be typed alone")
        verbs.add_parser("down", help="stop what a killed run has left behind")
        verbs.add_parser("status", help="say what runs")
        verbs.add_parser("clean", help="delete the embedded servers' data, orders included")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        actions: dict[str, Callable[[Stack], None]] = {
            "up": self._up,
            "exec": lambda stack: self._exec(stack, options),
            "down": self._down,
            "status": self._status,
            "clean": self._clean,
        }
        try:
            actions[verb](Stack(read_environment(), say=self._say))
        except Exception as error:
            if hasattr(error, "code"):
                raise CommandError(str(error)) from error
            raise

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _up(self, stack: Stack) -> None:
        since = time.monotonic()
        with _until_asked_to_stop():
            self._say(f"Starting the stack of {stack.layout.home} …")
            stack.start_servers()
            try:
                prepare(stack, say=self._say)
                self._say("Starting web, workers, beat, Flower and the sandbox …")
                stack.start()
                stack.wait_ready()
                self._welcome(stack, time.monotonic() - since)
                while True:
                    time.sleep(_LOOK_SECONDS)
                    stack.watch()
            finally:
                self._say("Stopping …")
                stack.stop()
                stack.stop_servers()
                self._say("Everything is stopped. Nothing is lost; `make up` goes on from here.")

    def _welcome(self, stack: Stack, seconds: float) -> None:
        environment = stack.environment
        web = f"http://{stack.host}:{environment.web_port}"
        login = (
            f"user admin, password {generated_secret(stack.layout, 'admin-password')}"
            if stack.servers.embeds_database
            else "with your own login"
        )
        people = (
            f"desk, supply, finance, senior, …: password in {stack.layout.secrets}/demo-password"
            if stack.servers.embeds_database
            else "the roles are there; the admin puts users into them"
        )
        flower = f"http://{stack.host}:{environment.flower_port}/   user admin, password "
        flower += stack.flower_password
        if "flower" not in stack.names:
            flower = "not started; set OMS_FLOWER_PASSWORD to have it"
        self._say(
            f"""
The stack is up, after {seconds:.1f} s.

  Admin     {web}/admin/   {login}
  Roles     {people}
  API docs  {web}/api/docs/
  Flower    {flower}
  Sandbox   {environment.sandbox_url}/status   the target systems that orders are sent to
  Logs      {stack.layout.logs}

  A key for the API:   .venv/bin/python manage.py api_key create --client me

Ctrl-C stops all of it.
"""
        )

    def _exec(self, stack: Stack, options: dict[str, Any]) -> None:
        command = options["command"]
        if command[:1] == ["--"]:
            command = command[1:]
        if not command:
            raise CommandError("Say what to run: stack exec -- COMMAND …")
        with _until_asked_to_stop(), stack.servers:
            if not options["no_migrate"]:
                migrate(stack)
            child = subprocess.Popen(command, env={**os.environ, **stack.variables()})
            try:
                code = child.wait()
            except Interrupted as interruption:
                # Ctrl-C has reached it already, a signal to this process alone has not.
                if interruption.number != signal.SIGINT:
                    child.send_signal(interruption.number)
                code = child.wait()
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def _down(self, stack: Stack) -> None:
        if not stack.is_alone:
            raise StackFailed(
                f"The stack of {stack.layout.home} runs; stop it with Ctrl-C where it was started."
            )
        for name in stop_leftovers(stack.layout.run):
            self._say(f"{name} stopped.")
        if stack.servers.stop_leftovers():
            self._say("Nothing of this stack runs any more.")
        else:
            self._say("The servers stay up: a test run or a command uses them.")

    def _status(self, stack: Stack) -> None:
        layout = stack.layout
        found = {
            "postgres": postgres.running_pid(layout),
            "redis": redis.running_pid(layout),
            **{record.stem: running(record) for record in sorted(layout.run.glob("*.json"))},
        }
        self._say(f"The stack of {layout.home} (server data in {layout.servers}):")
        for name, pid in found.items():
            self._say(f"  {name:24} {'not running' if pid is None else f'process {pid}'}")

    def _clean(self, stack: Stack) -> None:
        self._down(stack)
        if postgres.running_pid(stack.layout) is not None:
            raise StackFailed("The servers are in use; nothing was deleted.")
        for folder in {stack.layout.servers, stack.layout.sockets.parent}:
            shutil.rmtree(folder, ignore_errors=True)
        self._say("The servers' data is deleted.")


class Interrupted(Exception):
    """The user, or the system, has asked this process to stop."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def _until_asked_to_stop() -> Iterator[None]:
    """Leave the block when a signal asks for it. Further signals do not cut the stopping short."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, _: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number))

    for each in signals:
        signal.signal(each, interrupt)
    with suppress(Interrupted):
        yield


def migrate(stack: Stack) -> None:
    """Bring the schema up to date as the role that owns it."""
    _manage(stack, "migrate", "--verbosity", "0")


def prepare(stack: Stack, *, say: Callable[[str], None]) -> None:
    """Everything between bare servers and a usable stack; quick when there is nothing to do."""
    say("Bringing the database up to date …")
    _manage(stack, "prepare")


def _manage(stack: Stack, *arguments: str) -> None:
    variables = {**stack.variables(), "DATABASE_URL": stack.environment.database_owner_url}
    if stack.servers.embeds_database:
        variables["OMS_ADMIN_PASSWORD"] = generated_secret(stack.layout, "admin-password")
        variables["OMS_DEMO_PASSWORD"] = generated_secret(stack.layout, "demo-password")
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env={**os.environ, **variables},
        cwd=CHECKOUT,
        check=False,
    )
    if done.returncode:
        raise StackFailed(f"manage.py {' '.join(arguments)} failed; see above.")
