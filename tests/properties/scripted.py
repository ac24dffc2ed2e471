"""Target systems that follow a script and keep a ledger, in place of `desk.ScriptedSystems`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from adapters.contract import Command, Outcome
from fulfillment.engine.dispatch import callbacks
from fulfillment.models import Task
from tests import desk
from tests.properties.verdicts import EFFECTIVE, UNTOLD, Deed, Step, System


class Died(BaseException):
    """The sending process is gone; nothing after this line is run."""


class World(desk.ScriptedSystems):
    """Does what the scripts say, remembers every effect, and answers queries with the truth."""

    def __init__(self, *, steps: Mapping[str, Step], systems: Mapping[str, System]) -> None:
        super().__init__()
        self.steps = steps
        self.systems = systems
        self.effects: Counter[str] = Counter()
        self.refused: set[str] = set()
        self.untold: set[str] = set()
        self.to_report: list[Command] = []
        self._used: Counter[str] = Counter()
        self._reports = 0

    def answer(self, script: object, log: list[Command], command: Command) -> Outcome:
        log.append(command)
        return self._query(command) if log is self.queried else self._send(command)

    def _send(self, command: Command) -> Outcome:
        step = self.steps[command.action]
        system = self.systems[step.system]
        key = command.idempotency_key
        _everything_before_has_succeeded(command, step)
        assert system.idempotent or key not in self.untold, "sent again without knowing"
        position = self._used[step.name]
        self._used[step.name] += 1
        deed = step.script[position] if position < len(step.script) else Deed.DONE
        known = system.idempotent and self.effects[key] > 0
        if deed in EFFECTIVE and not known:
            self.effects[key] += 1
        if deed in UNTOLD:
            self.untold.add(key)
        match deed:
            case Deed.DONE_AND_SENDER_DIES | Deed.NOTHING_AND_SENDER_DIES:
                raise Died
            case Deed.DONE_IN_SILENCE | Deed.NOTHING_IN_SILENCE:
                return desk.unknown()
            case Deed.BUSY:
                return desk.failed()
            case Deed.BROKEN:
                return desk.failed(retryable=False)
            case Deed.REFUSED if not known:
                self.refused.add(key)
                return desk.rejected()
            case Deed.ACCEPTED if not known:
                self.to_report.append(command)
                return desk.accepted()
        return desk.succeeded()

    def _query(self, command: Command) -> Outcome:
        key = command.idempotency_key
        self.untold.discard(key)
        if self.effects[key]:
            return desk.succeeded()
        return desk.rejected() if key in self.refused else desk.not_found()

    def report(self, number: int) -> None:
        """One of the reports that are owed, perhaps once more than needed."""
        if not self.to_report:
            return
        command = self.to_report[number % len(self.to_report)]
        self._reports += 1
        callbacks.receive(
            report=callbacks.Report(
                source=command.target,
                # Sometimes the same event again, sometimes the same news as another event.
                event_id=f"{command.idempotency_key}-{self._reports % 2}",
                idempotency_key=command.idempotency_key,
                outcome=desk.succeeded(),
                body={},
            )
        )


def _everything_before_has_succeeded(command: Command, step: Step) -> None:
    rows = Task.objects.filter(plan__fulfillment__order_reference=command.order_reference)
    states = dict(rows.values_list("key", "state"))
    early = {name: states[f"{name}@1"] for name in step.after}
    assert set(early.values()) <= {"SUCCEEDED"}, f"{step.name} was sent before {early}"
