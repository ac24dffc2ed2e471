"""What a template promises about its orders, small enough to be seen to be right.

It reads templates as they are written, and knows neither tables nor a graph. A place is a task
of the plan and the number of its element (0: it stands alone). Whatever ends, the rules are
gone through from the start until nothing more follows; nothing is remembered in between but the
states. Times are hours since the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.properties.language_tree import Document, Node

Place = tuple[str, int]
Meanings = Mapping[str, Callable[["Scope"], Any]]
"""What a condition or a mapping of a template comes to, by its text."""
SUCCESSFUL = {"SUCCEEDED", "SKIPPED_BY_POLICY"}
TERMINAL = SUCCESSFUL | {"FAILED_FINAL"}
SENDABLE = {"READY", "FAILED_RETRYABLE"}
MOVING = SENDABLE | {"ACCEPTED", "OUTCOME_UNKNOWN"}
ASKABLE = {"alpha"}
"""Target systems that can be asked what became of a command; all deduplicate."""
REPORT_WITHIN = 2.5


class Missing(Exception):
    """A value that is needed is not there, or is none that can be used."""


@dataclass(frozen=True)
class Scope:
    """What a text may read."""

    order: Mapping[str, Any]
    items: list[Mapping[str, Any]]
    item: Mapping[str, Any]
    outputs: Callable[[str, str], Any]
    """(task, output) -> its value, None without one; a list where the task is of every item."""
    element: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Plan:
    """One order: what exists, and how far each of it is."""

    nodes: Mapping[str, Node]
    order: Mapping[str, Any]
    items: list[Mapping[str, Any]]
    meanings: Meanings
    reported: list[tuple[str, str, Mapping[str, Any]]]
    """(subject, name, values) of every milestone and signal that anybody has reported."""
    fast_path: bool
    shared: Mapping[str, str] = field(default_factory=dict)
    """Milestones that other orders may wait for, and the tasks that reach them."""
    states: dict[Place, str] = field(default_factory=dict)
    outputs: dict[Place, dict[str, Any]] = field(default_factory=dict)
    payloads: dict[Place, Any] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    """Of each fan-out its elements, and how many of them have been begun."""
    due: dict[Place, float] = field(default_factory=dict)
    awaits: dict[Place, tuple[str, str]] = field(default_factory=dict)
    routes: dict[Place, int] = field(default_factory=dict)
    sends: dict[Place, int] = field(default_factory=dict)
    asked: set[Place] = field(default_factory=set)
    """What people have to decide."""
    doubted: set[Place] = field(default_factory=set)
    """Sent again although nobody knows what became of an earlier send."""
    given_up: set[Place] = field(default_factory=set)
    """Skipped because of what has failed."""
    now: float = 0.0
    is_over: bool = False

    # --- what exists ----------------------------------------------------------------------------

    def beside(self, key: str, element: int) -> Place:
        return key, element if self.nodes[key].spread else 0

    def exists(self, key: str, element: int) -> bool | None:
        """None: that has not been decided yet."""
        node = self.nodes[key]
        if node.spread and not element:
            return self.exists(node.spread, 0)
        verdicts = [True if node.enter is None else self.exists(*self.beside(node.enter, element))]
        for need in node.needs:
            source = self.beside(need.source, element)
            if need.labels is not None or not node.deferred:
                verdicts.append(self.exists(*source))
            if need.labels is not None:
                verdicts.append(self.chose(source, need.labels))
        return False if False in verdicts else None if None in verdicts else True

    def chose(self, place: Place, labels: frozenset[str]) -> bool | None:
        state, outputs = self.states.get(place), self.outputs.get(place, {})
        if state == "SKIPPED_BY_POLICY":
            return False
        if state != "SUCCEEDED":
            return None
        chosen = outputs["created"] if "created" in outputs else [outputs["outcome"]]
        return not labels.isdisjoint(chosen)

    def sources(self, place: Place) -> list[tuple[Place, bool | None]]:
        """What it has to wait for, and whether that exists."""
        node, element = self.nodes[place[0]], place[1]
        found = []
        certain = [self.beside(need.source, element) for need in node.needs if not need.when]
        ready = all(
            self.states.get(one) in SUCCESSFUL or (node.deferred and self.exists(*one) is False)
            for one in certain
        )
        for need in node.needs:
            source = self.beside(need.source, element)
            there = self.exists(*source)
            if there is False and node.deferred:
                continue
            if need.when and not (ready and self.means(need.when, place)):
                continue
            found.append((source, there))
        return found

    def waits_for_nothing(self, place: Place) -> bool:
        return all(self.states.get(source) in SUCCESSFUL for source, _ in self.sources(place))

    def is_hopeless(self, place: Place) -> bool:
        """It has failed, or waits for what will never come."""
        state = self.states.get(place)
        if state is not None and state != "PENDING":
            return state == "FAILED_FINAL"
        if self.exists(*place) is False:
            return False
        node, element = self.nodes[place[0]], place[1]
        ahead = [source for source, _ in self.sources(place)]
        if state is None:  # Nobody can decide any more whether it is to exist.
            ahead = [self.beside(need.source, element) for need in node.needs]
        if node.enter is not None:
            ahead.append(self.beside(node.enter, element))
        return any(self.is_hopeless(source) for source in ahead)

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
        ready = self.lags
        for place in ready:
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
            report = (self.subject, name, {})
            done = any(self.states[key, 0] != "SKIPPED_BY_POLICY" for key in there)
            if done and len(there) + len(never) == len(carriers) and report not in self.reported:
                self.reported.append(report)

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
        return [one for one in elements if self.states.get((last, one)) in SUCCESSFUL]

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

    def _declared(self, key: str) -> Iterable[str]:
        spec = self.nodes[key].spec
        return spec["used"]["subprocess"]["outputs"] if "used" in spec else spec.get("outputs", {})

    # --- what it means to begin -----------------------------------------------------------------

    def scope(self, place: Place) -> Scope:
        node, element = self.nodes[place[0]], place[1]

        def outputs(task: str, name: str) -> Any:
            found = [
                self.outputs.get(self.beside(key, element), {}).get(name)
                for key in node.reads[task]
            ]
            of_one = node.item is not None or self.nodes[node.reads[task][0]].item is None
            return found[0] if of_one else found

        return Scope(
            order=self.order,
            items=self.items,
            item=self.items[node.item - 1] if node.item else {},
            outputs=outputs,
            element=self.lists[node.spread][element - 1] if node.spread and element else None,
            inputs=self.outputs.get(self.beside(node.enter, element), {}) if node.enter else {},
        )

    def means(self, text: Any, place: Place) -> Any:
        """The value of a text, or of a mapping of texts."""
        if isinstance(text, Mapping):
            return {name: self.means(one, place) for name, one in text.items()}
        return self.meanings[text](self.scope(place)) if text in self.meanings else text

    def _begin(self, place: Place) -> None:
        node = self.nodes[place[0]]
        spec = node.spec
        if self._is_left_out(place) or (
            "only_if" in spec and not self.means(spec["only_if"], place)
        ):
            self._skip(place)
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

    def _succeed(self, place: Place, **outputs: Any) -> None:
        self.states[place], self.outputs[place] = "SUCCEEDED", outputs

    def _begin_command(self, place: Place, spec: Document) -> None:
        self.payloads[place] = self.means(spec.get("input", {}), place)
        self.states[place], self.routes[place], self.sends[place] = "READY", 0, 0

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

    def _told(self, place: Place, values: Mapping[str, Any]) -> None:
        """What it waits for has been reported."""
        declared = self.nodes[place[0]].spec.get("outputs", {})
        if declared.keys() <= values.keys():
            self._succeed(place, **{name: values[name] for name in declared})
        else:
            self.states[place] = "AWAITING_MANUAL"

    def tell(self, subject: str, name: str, values: Mapping[str, Any]) -> None:
        """A milestone or a signal comes in; it is in `reported` already."""
        for place, awaited in self.awaits.items():
            if awaited == (subject, name) and self.states[place] in ("ACCEPTED", "AWAITING_MANUAL"):
                self._told(place, values)
                self.go_on(select=False)
        self.go_on()

    def decide(self, place: Place, outcome: str) -> None:
        self.asked.remove(place)
        self.due.pop(place, None)
        if self.nodes[place[0]].spec["manual"]["outcomes"][outcome] == "proceed":
            self._succeed(place, outcome=outcome)
        else:
            self.states[place] = "FAILED_FINAL"
        self.go_on()

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
                self.decide(place, otherwise)

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

    # --- commands -------------------------------------------------------------------------------

    def target(self, place: Place) -> str:
        spec, route = self.nodes[place[0]].spec, self.routes[place]
        return str((spec["fallback"][route - 1] if route else spec)["target"])

    def claimable(self, target: str) -> list[Place]:
        return [
            place
            for place, state in self.states.items()
            if state in SENDABLE | {"OUTCOME_UNKNOWN"} and self.target(place) == target
        ]

    def send(self, place: Place) -> None:
        assert self.states[place] in SENDABLE, f"{place} is sent while {self.states[place]}"
        self.sends[place] += 1

    def hear(self, place: Place, told: str, values: Mapping[str, Any] | None = None) -> None:
        """What a target system says about a command, by itself or when asked."""
        if self.states[place] in TERMINAL:
            return
        can_be_asked = self.target(place) in ASKABLE
        left = self.sends[place] < self.nodes[place[0]].spec["retry"]["maximum_attempts"]
        match told:
            case "done":
                declared = self._declared(place[0])
                self._succeed(place, **{name: (values or {})[name] for name in declared})
            case "accepted":
                self.states[place], self.due[place] = "ACCEPTED", self.now + REPORT_WITHIN
            case "lost" if can_be_asked:
                self.states[place] = "OUTCOME_UNKNOWN"
            case "lost" if left:
                self.states[place] = "READY"
                self.doubted.add(place)
            case "lost":
                self.states[place] = "AWAITING_MANUAL"
            case "never arrived":
                self.states[place] = "READY"
                self.sends[place] -= 1
            case "busy" if left:
                self.states[place] = "FAILED_RETRYABLE"
            case "busy" | "broken" if place in self.doubted:
                self.states[place] = "AWAITING_MANUAL"
            case _:
                self._another_way(place)

    def _another_way(self, place: Place) -> None:
        """It is known that nothing happened, if nothing before is in doubt."""
        ways = self.nodes[place[0]].spec.get("fallback", ())
        on_its_way = self.states[place] != "AWAITING_MANUAL"
        if place in self.doubted or not on_its_way or self.routes[place] == len(ways):
            self.states[place] = "FAILED_FINAL"
            return
        self.payloads[place] = self.means(ways[self.routes[place]].get("input", {}), place)
        self.states[place] = "FAILED_RETRYABLE"
        self.routes[place] += 1
        self.sends[place] = 0


def hours(text: str) -> float:
    """Of a duration such as `PT2H30M`."""
    whole, _, minutes = text.removeprefix("PT").rpartition("H")
    return float(whole or 0) + float(minutes.removesuffix("M") or 0) / 60
