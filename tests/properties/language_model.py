"""What a template promises about its orders, small enough to be seen to be right.

It reads templates as they are written, and knows neither tables nor a graph. Whatever ends, the
rules are gone through from the start until nothing more follows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.properties.language_commands import Commands
from tests.properties.language_state import MOVING, SUCCESSFUL, TERMINAL, Missing, Place, fits
from tests.properties.language_tree import Document, Node


@dataclass(kw_only=True)
class Plan(Commands):
    """One order: what follows from what, and what it means to begin."""

    # --- what follows from what -----------------------------------------------------------------

    def go_on(self, *, select: bool | None = None) -> None:
        """Everything that can be told by what has ended; with `select`, also what begins."""
        select = self.fast_path if select is None else select
        while self._come_to_exist() or self._fan_out() or (select and self._begin_all()):
            pass

    def settle_down(self) -> None:
        """Nothing is left to be selected: it may be over, or wait for help."""
        if self.is_over or self.moving:
            return
        if not self.mandatory_open:
            hopeless = [place for place in self._pending() if self.is_hopeless(place)]
            self.states.update(dict.fromkeys(hopeless, "SKIPPED_BY_POLICY"))
            self.given_up.update(hopeless)
        self.is_over = not self.tasks_open and not self.mandatory_open

    @property
    def lags(self) -> list[Place]:
        """What could begin, and has not."""
        return [place for place in self._pending() if self._can_begin(place)]

    @property
    def state(self) -> str:
        if self.is_over:
            return "COMPLETED"
        return "RUNNING" if self.moving else "BLOCKED"

    @property
    def moving(self) -> int:
        return sum(state in MOVING for state in self.states.values())

    @property
    def tasks_open(self) -> int:
        return sum(state not in TERMINAL for state in self.states.values())

    @property
    def mandatory_open(self) -> int:
        """What nobody has decided about counts as needed."""
        return sum(
            node.required
            and self.states.get((key, 0)) not in SUCCESSFUL
            and self.exists(key, 0) is not False
            for key, node in self.nodes.items()
        )

    def _pending(self) -> list[Place]:
        return [place for place, state in self.states.items() if state == "PENDING"]

    def _come_to_exist(self) -> bool:
        born = [
            (key, element)
            for key, node in self.nodes.items()
            for element in (range(1, self.started.get(node.spread, 0) + 1) if node.spread else [0])
            if (key, element) not in self.states and self.exists(key, element)
        ]
        self.states.update(dict.fromkeys(born, "PENDING"))
        return bool(born)

    def _begin_all(self) -> bool:
        ready = sorted(self.lags, key=lambda place: (self.rank[place[0]], place[1]))
        for place in ready:
            if self._can_begin(place):  # What it uses may be renewed for another, since.
                self._begin(place)
        return bool(ready)

    def _can_begin(self, place: Place) -> bool:
        if self.nodes[place[0]].kind == "gather":
            return False
        return self._is_left_out(place) or self.waits_for_nothing(place)

    def _is_left_out(self, place: Place) -> bool:
        """The sub-process that it belongs to is skipped."""
        enter = self.nodes[place[0]].enter
        return bool(enter) and (
            self.states.get(self.beside(str(enter), place[1])) == "SKIPPED_BY_POLICY"
        )

    def reach_milestones(self) -> None:
        """Others hear of them once everything that belongs together has happened."""
        for name, task in self.shared.items():
            carriers = [
                key
                for key, node in self.nodes.items()
                if key in (f"{task}@{node.item}", f"thing/{task}")
            ]
            there = [
                key
                for key in carriers
                if self.states.get((key, 0)) in SUCCESSFUL and (key, 0) not in self.given_up
            ]
            never = [key for key in carriers if self.exists(key, 0) is False]
            report: tuple[str, str, dict[str, Any]] = (self.subject, name, {})
            done = any(self.states[key, 0] != "SKIPPED_BY_POLICY" for key in there)
            complete = len(there) + len(never) == len(carriers)
            if done and complete and report not in self.reported:
                self.reported.append(report)
            known = any(one[:2] == report[:2] for one in self.reported)
            if not known and (complete or self.is_over):
                self.reported.append((self.subject, name, None))

    @property
    def subject(self) -> str:
        return f"order {self.order['external_id']}"

    # --- fan-outs -------------------------------------------------------------------------------

    def failed(self, spread: str) -> set[int]:
        """Elements of which a task that they need has failed."""
        return {
            element
            for (key, element), state in self.states.items()
            if state == "FAILED_FINAL"
            and self.nodes[key].needed
            and self.nodes[key].spread == spread
        }

    def done(self, spread: str) -> list[int]:
        last, elements = self.nodes[spread].last, range(1, self.started[spread] + 1)
        ended = [one for one in elements if self.states.get((last, one)) in SUCCESSFUL]
        return [one for one in ended if (last, one) not in self.given_up]

    def _fan_out(self) -> bool:
        gone_on = [self._go_on_with(spread) for spread in self.lists]
        return any(gone_on)

    def _go_on_with(self, spread: str) -> bool:
        each, total = self.nodes[spread].spec["for_each"], len(self.lists[spread])
        gather = (self.nodes[spread].gather, 0)
        failed, done = self.failed(spread), self.done(spread)
        broken = len(failed) > math.floor(each.get("tolerate", 0) * total)
        under_way = self.started[spread] - len(done) - len(failed)
        if not broken and self.started[spread] < total and under_way < each.get("at_once", 10):
            self.started[spread] += 1
            return True
        if under_way or self.states[gather] != "PENDING":
            return False
        if broken:
            self.states[gather] = "FAILED_FINAL"
        else:
            declared = self._declared(self.nodes[spread].last)
            outputs = [self.outputs.get((self.nodes[spread].last, one), {}) for one in done]
            self.outputs[gather] = {
                **{name: [one.get(name) for one in outputs] for name in declared},
                "succeeded": len(done),
                "failed": len(failed),
            }
            self.states[gather] = "SUCCEEDED"
        return True

    # --- what it means to begin -----------------------------------------------------------------

    def _begin(self, place: Place) -> None:
        node = self.nodes[place[0]]
        spec = node.spec
        if self._is_left_out(place) or (
            "only_if" in spec and not self.means(spec["only_if"], place)
        ):
            self._skip(place)
        elif self._set_aside(place):
            pass
        elif not all(self.means(one["check"], place) for one in spec.get("preconditions", ())):
            self.states[place] = "AWAITING_MANUAL"
        else:
            try:
                getattr(self, f"_begin_{node.kind}")(place, spec)
            except Missing:
                self.states[place] = "AWAITING_MANUAL"

    def _skip(self, place: Place) -> None:
        self.states[place] = "SKIPPED_BY_POLICY"
        if self.nodes[place[0]].gather:  # All of the fan-out.
            self.states[self.nodes[place[0]].gather, 0] = "SKIPPED_BY_POLICY"

    def _begin_decide(self, place: Place, spec: Document) -> None:
        decide = spec["decide"]
        if isinstance(decide, Mapping):
            created = self.means(decide["names"], place)
            if not set(created) <= set(decide["among"]):
                raise Missing
        else:
            holding = (one for one in decide if "when" not in one or self.means(one["when"], place))
            rule = next(holding)
            created = rule.get("create", rule.get("otherwise"))
        self._succeed(place, created=list(dict.fromkeys(created)))

    def _begin_enter(self, place: Place, spec: Document) -> None:
        self._succeed(place, **self.means(spec.get("input", {}), place))

    def _begin_leave(self, place: Place, spec: Document) -> None:
        results = spec["used"]["subprocess"]["outputs"]
        self._succeed(
            place, **{name: self.means(one["value"], place) for name, one in results.items()}
        )

    def _begin_spread(self, place: Place, spec: Document) -> None:
        elements = self.means(spec["for_each"]["over"], place)
        if not isinstance(elements, list):
            raise Missing
        self.lists[place[0]], self.started[place[0]] = elements, 0
        self.states[place] = "SUCCEEDED"

    def _begin_manual(self, place: Place, spec: Document) -> None:
        self.states[place] = "AWAITING_MANUAL"
        self.due[place] = self.now + hours(spec["manual"]["within"])
        self.asked.add(place)

    def _begin_wait(self, place: Place, spec: Document) -> None:
        wait = spec["wait"]
        if "delay" in wait or "until" in wait:
            until = self.means(wait["until"], place) if "until" in wait else None
            self.due[place] = self.now + hours(wait["delay"]) if until is None else until
            past = self.due[place] <= self.now
            self.states[place] = "SUCCEEDED" if past else "ACCEPTED"
            return
        name, subject = wait.get("milestone", wait.get("signal")), self.subject
        if "signal" in wait:
            subject = f"key {self.means(wait['key'], place)}"
        elif "order" in wait:
            subject = f"order {self.means(wait['order'], place)}"
        self.awaits[place] = subject, name
        self.due[place] = self.now + hours(wait["within"])
        self.states[place] = "ACCEPTED"
        told = [values for about, of, values in self.reported if (about, of) == (subject, name)]
        if told:
            self._told(place, told[-1])

    # --- what happens to it ---------------------------------------------------------------------

    def _told(self, place: Place, values: Mapping[str, Any] | None) -> None:
        """What it waits for has been reported; None: it will not come."""
        if values is None:
            if self.states[place] == "ACCEPTED":
                self._wait_is_over(place, self.nodes[place[0]].spec["wait"])
            return
        declared = self.nodes[place[0]].spec.get("outputs", {})
        if fits(declared, values):
            self._succeed(place, **{name: values[name] for name in declared})
        else:
            self.states[place] = "AWAITING_MANUAL"

    def tell(self, subject: str, name: str, values: Mapping[str, Any] | None) -> None:
        """A milestone or a signal comes in; it is in `reported` already."""
        for place, awaited in self.awaits.items():
            if awaited == (subject, name) and self.states[place] in ("ACCEPTED", "AWAITING_MANUAL"):
                self._told(place, values)
                self.go_on(select=False)
        self.go_on()

    def decide(self, place: Place, outcome: str, values: Mapping[str, Any]) -> bool:
        """False when the form asks for more, and nothing has been decided."""
        spec = self.nodes[place[0]].spec
        proceeds = spec["manual"]["outcomes"][outcome] == "proceed"
        if proceeds and not fits(spec.get("fields", {}), values):
            return False
        self.asked.remove(place)
        self.due.pop(place, None)
        if proceeds:
            self._succeed(place, **values, outcome=outcome)
        else:
            self.states[place] = "FAILED_FINAL"
        self.go_on()
        return True

    def sweep(self) -> None:
        """What nobody has reported or decided in time."""
        due = [place for place, at in self.due.items() if at <= self.now]
        for place in sorted(due, key=self.due.__getitem__):
            if self.states[place] == "ACCEPTED":
                del self.due[place]
                if self.nodes[place[0]].kind == "command":
                    self.hear(place, "lost")
                else:
                    self._wait_is_over(place, self.nodes[place[0]].spec["wait"])
                self.go_on(select=False)
        self.go_on()
        for place in set(due) & self.asked:
            otherwise = self.nodes[place[0]].spec["manual"]["otherwise"]
            if otherwise == "escalate":
                del self.due[place]
            else:
                self.decide(place, otherwise, {})

    def _wait_is_over(self, place: Place, wait: Document) -> None:
        match wait.get("otherwise"):
            case None:
                self._succeed(place)
            case "continue":
                self._succeed(place, **wait.get("default", {}))
            case "fail":
                self.states[place] = "FAILED_FINAL"
            case "escalate":
                self.states[place] = "AWAITING_MANUAL"

    def retry(self, place: Place) -> set[Place]:
        """What has failed for good is tried again by hand; of a fan-out what has failed of it."""
        node = self.nodes[place[0]]
        of_it = {key for key, one in self.nodes.items() if one.spread == self._spread_of(node)}
        again = {
            one
            for one, state in self.states.items()
            if state == "FAILED_FINAL"
            and self.nodes[one[0]].kind == "command"
            and (one == place or (node.kind == "gather" and one[0] in of_it))
        }
        for key, element in again:
            self._begin_command((key, element), self.nodes[key].spec)
            self.doubted.discard((key, element))
            gather = (self.nodes[self.nodes[key].spread or key].gather, 0)
            if element and self.states[gather] == "FAILED_FINAL":
                self.states[gather] = "PENDING"
        self.go_on()
        return again

    def _spread_of(self, gather: Node) -> str | None:
        return next((key for key, one in self.nodes.items() if one.gather == gather.key), "")


def hours(text: str) -> float:
    """Of a duration such as `PT2H30M`."""
    whole, _, minutes = text.removeprefix("PT").rpartition("H")
    return float(whole or 0) + float(minutes.removesuffix("M") or 0) / 60
