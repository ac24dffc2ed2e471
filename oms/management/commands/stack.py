"""`manage.py stack up|exec|down|status`: the processes of one stack on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from argparse import REMAINDER
from collections.abc import Callable
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser

from oms.embedded import postgres, redis
from oms.embedded.layout import generated_secret
from oms.environment import CHECKOUT, read_environment
from oms.supervisor.processes import stop_leftovers
from oms.supervisor.stack import Stack

_LOOK_SECONDS = 0.5


class Command(BaseCommand):
    help = "Start, stop and look at the stack: servers, web, workers, beat, Flower, sandbox."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        verbs.add_parser("up", help="start everything and stay; Ctrl-C stops all of it")
        run = verbs.add_parser("exec", help="start the embedded servers, run a command, stop them")
        run.add_argument("--no-migrate", action="store_true")
        run.add_argument("command", nargs=REMAINDER)
        verbs.add_parser("down", help="stop what an interrupted run has left behind")
        verbs.add_parser("status", help="say what runs")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        actions: dict[str, Callable[[Stack], None]] = {
            "up": self._up,
            "exec": lambda stack: self._exec(stack, options),
            "down": self._down,
            "status": self._status,
        }
        stack = Stack(read_environment(), say=self._say)
        try:
            actions[verb](stack)
        except Exception as error:
            if hasattr(error, "code"):
                raise CommandError(f"{error}") from error
            raise

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _up(self, stack: Stack) -> None:
        stopping = False

        def stop(*_: object) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        self._say("Starting PostgreSQL and Redis …")
        stack.start_servers()
        try:
            prepare(stack, say=self._say)
            self._say("Starting web, workers, beat, Flower and the sandbox …")
            stack.start()
            stack.wait_ready()
            self._welcome(stack)
            while not stopping:
                time.sleep(_LOOK_SECONDS)
                stack.watch()
        finally:
            self._say("Stopping …")
            stack.stop()
            stack.stop_servers()
            self._say("Everything is stopped. Nothing is lost; `make up` goes on where it was.")

    def _welcome(self, stack: Stack) -> None:
        environment = stack.environment
        host = f"http://127.0.0.1:{environment.web_port}"
        password = generated_secret(stack.layout, "admin-password")
        self._say(
            "\n".join(
                (
                    "",
                    "The stack is up.",
                    "",
                    f"  Admin     {host}/admin/   user admin, password {password}",
                    f"  API docs  {host}/api/docs/",
                    f"  Flower    http://127.0.0.1:{environment.flower_port}/   "
                    f"user admin, password {stack.flower_password}",
                    f"  Sandbox   http://127.0.0.1:{environment.sandbox_port}/status",
                    f"  Logs      {stack.layout.logs}",
                    "",
                    "  An API key:  .venv/bin/python manage.py api_key create --client me",
                    "",
                    "Ctrl-C stops all of it.",
                    "",
                )
            )
        )

    def _exec(self, stack: Stack, options: dict[str, Any]) -> None:
        command = [word for word in options["command"] if word != "--"]
        if not command:
            raise CommandError("Say what to run: stack exec -- COMMAND …")
        stack.start_servers()
        try:
            if not options["no_migrate"]:
                migrate(stack)
            done = subprocess.run(command, env={**os.environ, **stack.variables()}, check=False)
        finally:
            stack.stop_servers()
        if done.returncode:
            sys.exit(done.returncode)

    def _down(self, stack: Stack) -> None:
        for name in stop_leftovers(stack.layout.run):
            self._say(f"{name} stopped.")
        redis.stop(stack.layout)
        postgres.stop(stack.layout)
        self._say("Nothing of this stack runs any more.")

    def _status(self, stack: Stack) -> None:
        for name, pid in (
            ("PostgreSQL", postgres.running_pid(stack.layout)),
            ("Redis", redis.running_pid(stack.layout)),
        ):
            self._say(f"{name}: {'not running' if pid is None else f'process {pid}'}")


def migrate(stack: Stack) -> None:
    """Bring the schema up to date as the role that owns it."""
    _manage(stack, "migrate", "--verbosity", "0", owner=True)


def prepare(stack: Stack, *, say: Callable[[str], None]) -> None:
    """Everything between bare servers and a usable stack; quick when there is nothing to do."""
    say("Bringing the database up to date …")
    variables = {
        **stack.variables(),
        "DATABASE_URL": stack.environment.database_owner_url,
        "OMS_ADMIN_PASSWORD": generated_secret(stack.layout, "admin-password"),
    }
    _run([sys.executable, "manage.py", "prepare"], variables)


def _manage(stack: Stack, *arguments: str, owner: bool = False) -> None:
    variables = stack.variables()
    if owner:
        variables["DATABASE_URL"] = stack.environment.database_owner_url
    _run([sys.executable, "manage.py", *arguments], variables)


def _run(command: list[str], variables: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **variables}, cwd=CHECKOUT, check=False)
    if done.returncode:
        raise CommandError(f"{' '.join(command[1:])} failed; see above.")
