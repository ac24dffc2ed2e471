"""`manage.py demo`: a mixed batch of orders through the real stack, watched and counted."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser
from django.db import OperationalError
from rich.console import Console
from rich.live import Live

from fulfillment.models import Command as TargetCommand
from oms.demo import board, samples
from oms.demo.client import Client, DemoFailed
from oms.environment import read_environment
from oms.keys import create_key
from oms.management.commands.stack import prepare
from oms.models import ApiClient, Notification, Scope
from oms.supervisor.stack import Stack

_LOOK_SECONDS = 0.25
_LINE_SECONDS = 2.0


class Command(BaseCommand):
    help = "Run the demo: start the stack, submit orders, watch them complete, count the effects."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--orders", type=int, default=60, help="how many orders (default 60)")
        parser.add_argument(
            "--seconds", type=float, default=300, help="give up after this long (default 300)"
        )

    def handle(self, *args: Any, orders: int, seconds: float, **options: Any) -> None:
        self.console = Console()
        stack = Stack(read_environment(), say=self.console.print)
        started = time.monotonic()
        try:
            stack.start_servers()
            try:
                prepare(stack, say=self.console.print)
                self.console.print("Starting web, workers, beat, Flower and the sandbox …")
                stack.start()
                stack.wait_ready()
                self.console.print(f"Ready after {time.monotonic() - started:.1f} s.\n")
                self._run(stack, orders, seconds)
            finally:
                stack.stop()
                stack.stop_servers()
        except Exception as error:
            if hasattr(error, "code") and not isinstance(error, OperationalError):
                raise CommandError(str(error)) from error
            raise

    def _run(self, stack: Stack, count: int, seconds: float) -> None:
        run = secrets.token_hex(3)
        environment = stack.environment
        api_client, _ = ApiClient.objects.get_or_create(name="demo")
        key = create_key(client=api_client, scopes=[Scope.ORDERS_READ, Scope.ORDERS_WRITE])
        client = Client(
            api_url=f"http://127.0.0.1:{environment.web_port}",
            sandbox_url=f"http://127.0.0.1:{environment.sandbox_port}",
            key=key,
        )
        client.script(samples.BEHAVIOURS)
        bodies = samples.batch(count=count, run=run, more=samples.UNATTENDED)
        began = time.monotonic()
        results: list[dict[str, Any]] = []
        for number in range(0, len(bodies), 20):
            results += client.submit(
                orders=bodies[number : number + 20], idempotency_key=f"demo-{run}-{number}"
            )
        references = [result["order"]["id"] for result in results]
        self.console.print(f"{len(references)} orders submitted over HTTP.\n")
        view = self._watch(stack, references, began, seconds)
        self._report(client, references, view, time.monotonic() - began, environment.web_port)

    def _watch(
        self, stack: Stack, references: list[str], began: float, seconds: float
    ) -> board.View:
        view = board.View()
        interactive = self.console.is_terminal
        spoken = 0.0
        with Live(console=self.console, auto_refresh=False, transient=False) as live:
            while True:
                stack.watch()
                elapsed = time.monotonic() - began
                view = board.look(references)
                if interactive:
                    live.update(board.draw(view, seconds=elapsed), refresh=True)
                elif elapsed - spoken >= _LINE_SECONDS or view.finished:
                    spoken = elapsed
                    self.console.print(board.line(view, seconds=elapsed), soft_wrap=True)
                if view.finished or elapsed > seconds:
                    return view
                time.sleep(_LOOK_SECONDS)

    def _report(
        self,
        client: Client,
        references: list[str],
        view: board.View,
        seconds: float,
        web_port: int,
    ) -> None:
        keys = set(
            TargetCommand.objects.filter(
                task__plan__fulfillment__order_reference__in=references
            ).values_list("idempotency_key", flat=True)
        )
        effects: Counter[str] = Counter()
        systems: Counter[str] = Counter()
        questions = 0
        for reference in references:
            for execution in client.executions(order=reference):
                effects[execution["idempotency_key"]] += 1
                if execution["idempotency_key"] in keys:
                    systems[execution["target"]] += 1
                else:
                    questions += 1  # whether the order can be done: asked before it has tasks
        duplicates = sum(count > 1 for count in effects.values())
        missing = keys - set(effects)
        where = ", ".join(f"{target} {count}" for target, count in sorted(systems.items()))
        told = Notification.objects.filter(order__reference__in=references).count()
        post = read_environment().email.get("EMAIL_FILE_PATH", "the mail server")
        self.console.print(
            "\n".join(
                (
                    "",
                    f"Orders completed        {view.completed} of {len(references)}",
                    f"Tasks done              {view.tasks_done} of {view.tasks}",
                    f"Side effects            {systems.total()}, counted in the target systems' "
                    "own ledger",
                    f"                        {where}",
                    f"Feasibility questions   {questions}, asked before an order is accepted",
                    f"Commands without effect {len(missing)}",
                    f"Duplicates              {duplicates}",
                    f"Customers told          {told} messages: events, and e-mail in {post}",
                    f"Wall time               {seconds:.1f} s",
                    "",
                    "Look next:  make up, then",
                    f"  the orders and why they waited   http://127.0.0.1:{web_port}/admin/",
                    f"  the API                          http://127.0.0.1:{web_port}/api/docs/",
                    "",
                )
            ),
            highlight=False,
            soft_wrap=True,
        )
        for reference, external_id, state, _, still_open, plan in view.orders:
            if state != "COMPLETED":
                self.console.print(
                    f"{reference} ({external_id}) is {state}, plan {plan}, {still_open} tasks open."
                )
        if duplicates:
            raise DemoFailed(f"{duplicates} commands had more than one effect.")
        if missing:
            raise DemoFailed(f"{len(missing)} commands succeeded without an effect in the ledger.")
        if view.completed != len(references):
            raise DemoFailed(
                f"{len(references) - view.completed} orders did not complete within the time."
            )
        self.console.print("Every order completed, and every command had exactly one effect.")
        sys.stdout.flush()
