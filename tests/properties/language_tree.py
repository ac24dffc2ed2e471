"""The tasks of a plan, as its templates write them: for each item, of each sub-process.

What stands in a fan-out stands here once, for all of its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """One thing that a task depends on."""

    source: str
    labels: frozenset[str] | None = None
    """The task comes to exist only when the source chooses one of these."""
    when: str = ""
    """There is no such need unless this holds."""
    output: str = ""
    expires: str = ""
    """What is done when the output that it is about can't be used any more."""


@dataclass
class Node:
    """One task of the plan, as its template writes it."""

    key: str
    kind: str
    spec: Document
    item: int | None
    required: bool
    deferred: bool = False
    needed: bool = False
    """Its element fails when it does."""
    spread: str | None = None
    enter: str | None = None
    needs: list[Need] = field(default_factory=list)
    reads: dict[str, list[str]] = field(default_factory=dict)
    """The tasks of a name, of each item, seen from this one."""
    gather: str = ""
    last: str = ""
    """Of a fan-out: where it ends, and where each element does."""


@dataclass(frozen=True)
class _Stand:
    """Where the tasks of a template stand."""

    path: str = ""
    item: int | None = None
    inside: bool = False
    required: bool = True
    needed: bool = True
    spread: str | None = None
    enter: str | None = None


@dataclass
class Expansion:
    """The tasks of a plan: for each item, of each sub-process, once for all elements."""

    workflow: str
    positions: tuple[int, ...]
    """Of the items."""
    library: Mapping[str, Document]
    nodes: dict[str, Node] = field(default_factory=dict)

    def of(self, tasks: Mapping[str, Document]) -> dict[str, Node]:
        """All tasks of the template that an order has chosen."""
        self._body(tasks, _Stand())
        return self.nodes

    def _body(self, tasks: Mapping[str, Document], stand: _Stand) -> dict[str, dict[Any, Any]]:
        tasks = waits_written_out(tasks)
        ends: dict[str, dict[int | None, tuple[str, str, str]]] = {}
        for name, spec in tasks.items():
            places: Iterable[int | None] = self.positions
            if stand.inside:
                places = [stand.item]
            elif spec.get("scope") == "order":
                places = [None]
            ends[name] = {item: self._task(name, spec, stand, item) for item in places}
        for name, spec in tasks.items():
            for item, (start, end, first) in ends[name].items():
                for one in spec.get("depends_on", ()):
                    of, need = _need(one, tasks)
                    sources = [source[1] for source in _seen(ends[of], item)]
                    # What an element reads, it needs as well; it may be renewed meanwhile.
                    for reader in {start, first} if "output" in one else {start}:
                        node = self.nodes[reader]
                        node.needs += [replace(need, source=source) for source in sources]
                        if "output" in one:
                            node.reads[of] = sources
                for branch in branches_of(spec):
                    for name_of in tasks:  # A wait of a branch is part of it.
                        if name_of.partition("~")[0] == branch:
                            for created in _seen(ends[name_of], item):
                                chosen = Need(end, frozenset({branch}))
                                self.nodes[created[0]].needs.append(chosen)
        return ends

    def _task(
        self, name: str, spec: Document, stand: _Stand, item: int | None
    ) -> tuple[str, str, str]:
        if "for_each" not in spec:
            node = self._once(name, spec, stand, item)
            return (*node, node[0])
        spread = self._add(f"{name}~each", "spread", spec, stand, item)
        inside = _Stand(stand.path, item, True, spread=spread.key, enter=stand.enter)
        bare = {key: value for key, value in spec.items() if key not in _OF_THE_WHOLE}
        start, end = self._once(name, bare, inside, item, element="~element")
        self.nodes[start].deferred = spec.get("join") == "deferred"
        for key in (start, end):
            self.nodes[key].needed = True
        gather = self._add(name, "gather", bare, stand, item)
        gather.needs.append(Need(spread.key))
        spread.gather, spread.last = gather.key, end
        return spread.key, gather.key, start

    def _once(
        self, name: str, spec: Document, stand: _Stand, item: int | None, element: str = ""
    ) -> tuple[str, str]:
        if "use" not in spec:
            node = self._add(f"{name}{element}", kind_of(spec), spec, stand, item)
            return node.key, node.key
        used = self.library[spec["use"]]
        enter = self._add(f"{name}{element}~inputs", "enter", spec, stand, item)
        required = spec.get("required", True)
        inner = _Stand(
            f"{stand.path}{name}/",
            item,
            True,
            stand.required and required,
            stand.needed and (required or bool(element)),
            stand.spread,
            enter.key,
        )
        body = self._body(used["tasks"], inner)
        bare = {key: value for key, value in spec.items() if key not in _OF_THE_WHOLE}
        leave = self._add(f"{name}{element}", "leave", {**bare, "used": used}, stand, item)
        leave.enter, leave.deferred = enter.key, True
        written = waits_written_out(used["tasks"])
        for task, by_item in body.items():
            for start, end, _ in by_item.values():
                if all(need.when for need in self.nodes[start].needs):
                    self.nodes[start].needs.append(Need(enter.key))
                if written[task].get("required", True):
                    leave.needs.append(Need(end))
                leave.reads[task] = [end]
        return enter.key, leave.key

    def _add(self, name: str, kind: str, spec: Document, stand: _Stand, item: int | None) -> Node:
        where = (
            f"{self.workflow}/{stand.path}{name}" if item is None else f"{stand.path}{name}@{item}"
        )
        required = spec.get("required", True)
        node = Node(
            where,
            kind,
            spec,
            item,
            required=required and stand.required and stand.spread is None,
            deferred=spec.get("join") == "deferred",
            needed=required and stand.needed and stand.spread is not None,
            spread=stand.spread,
            enter=stand.enter,
        )
        self.nodes[where] = node
        return node


_OF_THE_WHOLE = {"only_if", "preconditions", "join", "for_each"}
"""Concern a fan-out or a sub-process as a whole, so its beginning."""


def kind_of(spec: Document) -> str:
    kinds = {"target": "command", "decide": "decide", "wait": "wait", "manual": "manual"}
    return next(kind for key, kind in kinds.items() if key in spec)


def branches_of(spec: Document) -> list[str]:
    decide = spec.get("decide", [])
    if isinstance(decide, Mapping):
        return list(decide["among"])
    created = [name for rule in decide for name in rule.get("create", rule.get("otherwise"))]
    return list(dict.fromkeys(created))


def waits_written_out(tasks: Mapping[str, Document]) -> dict[str, Document]:
    """A wait in a dependency is a task in front of the one that has it."""
    found: dict[str, Document] = {}
    for name, spec in tasks.items():
        needs = spec.get("depends_on", ())
        others = [one for one in needs if {"success", "output", "human"} & one.keys()]
        rest = []
        for position, one in enumerate(needs, 1):
            if one in others:
                rest.append(one)
                continue
            label = one.get("milestone", position)
            shared = {key: spec[key] for key in ("scope", "required", "join") if key in spec}
            wait = {key: value for key, value in one.items() if key != "after"}
            before = [{"success": one["after"]}] if "after" in one else others
            found[f"{name}~{label}"] = {**shared, "wait": wait, "depends_on": before}
            rest.append({"success": f"{name}~{label}"})
        found[name] = {**spec, "depends_on": rest}
    return found


def _need(one: Document, tasks: Mapping[str, Document]) -> tuple[str, Need]:
    if "human" in one:
        outcomes = tasks[one["human"]]["manual"]["outcomes"]
        all_of_them = {name for name, does in outcomes.items() if does == "proceed"}
        chosen = frozenset(one["outcomes"])
        return one["human"], Need("", None if chosen == all_of_them else chosen)
    of = one["success"] if "success" in one else one["output"].partition(".")[0]
    output = one.get("output", "").partition(".")[2]
    declared = tasks[of].get("outputs", {}).get(output)
    expires = isinstance(declared, Mapping) and "valid_until" in declared
    return of, Need(
        "",
        when=one.get("when") or "",
        output=output,
        expires=one.get("expired", "case") if expires else "",
    )


def _seen(by_item: Mapping[int | None, Any], item: int | None) -> list[Any]:
    """Of the same item, or of every item where one of the two is of the whole order."""
    return [by_item[item]] if item is not None and item in by_item else list(by_item.values())
