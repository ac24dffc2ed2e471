"""What the model knows of one order: its tasks, how far each is, and what exists at all.

A place is a task of the plan and the number of its element (0: it stands alone). Nothing is
remembered but the states and what has been returned. Times are hours since the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.properties.language_tree import Document, Node

Place = tuple[str, int]
Meanings = Mapping[str, Callable[["Scope"], Any]]
"""What a condition or a mapping of a template comes to, by its text."""
SUCCESSFUL = {"SUCCEEDED", "SKIPPED_BY_POLICY"}
TERMINAL = SUCCESSFUL | {"FAILED_FINAL"}
MOVING = {"READY", "FAILED_RETRYABLE", "ACCEPTED", "OUTCOME_UNKNOWN"}


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


@dataclass(kw_only=True)
class State:
    """One order: what exists, and how far each of it is."""

    nodes: Mapping[str, Node]
    order: Mapping[str, Any]
    items: list[Mapping[str, Any]]
    meanings: Meanings
    reported: list[tuple[str, str, Mapping[str, Any] | None]]
    """(subject, name, values) of every milestone and signal that anybody has reported."""
    fast_path: bool
    instant: Callable[[str], float]
    """The time that a text says."""
    rank: Mapping[str, tuple[int, int]]
    """Of the tasks that can begin at a time, the lower one does so first."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Milestones that other orders may wait for, and the tasks that reach them."""
    states: dict[Place, str] = field(default_factory=dict)
    outputs: dict[Place, dict[str, Any]] = field(default_factory=dict)
    lists: dict[str, list[Any]] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    """Of each fan-out its elements, and how many of them have been begun."""
    due: dict[Place, float] = field(default_factory=dict)
    awaits: dict[Place, tuple[str, str]] = field(default_factory=dict)
    asked: set[Place] = field(default_factory=set)
    """What people have to decide."""
    given_up: set[Place] = field(default_factory=set)
    """Skipped because of what has failed."""
    now: float = 0.0
    is_over: bool = False

    @property
    def done_with(self) -> set[Place]:
        return {place for place, state in self.states.items() if state in SUCCESSFUL}

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

    def _declared(self, key: str) -> Document:
        spec = self.nodes[key].spec
        found = spec["used"]["subprocess"] if "used" in spec else spec
        return dict(found.get("outputs", {}))

    def _succeed(self, place: Place, **outputs: Any) -> None:
        self.states[place], self.outputs[place] = "SUCCEEDED", outputs


def fits(declared: Document, values: Mapping[str, Any]) -> bool:
    """Whether everything is there that has to be."""
    needed = [
        name
        for name, output in declared.items()
        if not (isinstance(output, Mapping) and output.get("optional"))
    ]
    return all(values.get(name) is not None for name in needed)
