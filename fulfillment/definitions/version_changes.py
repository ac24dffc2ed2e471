"""What has changed from one version of a workflow to another, in plain words. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fulfillment.definitions.assembly import Used
from fulfillment.definitions.decomposition import sketch
from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.migration import Fate, compare
from fulfillment.definitions.schema import WorkflowDefinition, definition_document

_PARTS: Mapping[str, str] = {
    "kind": "what kind of task it is",
    "task": "its name",
    "input": "what is sent",
    "outputs": "what it returns",
    "required": "whether the order needs it",
    "needed": "whether an element needs it",
    "irreversible": "whether there is a way back",
    "retry": "how often it is tried again",
    "call_timeout_seconds": "how long a call may take",
    "callback_timeout_seconds": "by when the result has to be reported",
    "clocks": "its deadlines",
    "compensation": "how it is undone",
    "no_compensation": "why it is not undone",
    "lasting_impact": "what remains when it is not undone",
    "milestones": "its milestones",
    "fallbacks": "what is tried in its place",
    "deferred": "whether it waits only for what exists",
    "only_if": "on which condition it is done",
    "preconditions": "what has to hold before it",
    "decision": "how it decides",
    "wait": "what it waits for",
    "manual": "what a person is asked",
    "fan_out": "how its list is worked through",
    "group": "the list that it belongs to",
    "enter": "the sub-process that it belongs to",
    "locks": "what it locks",
    "window": "when it may be sent",
    "stops_clock": "whether the plan's deadline stands still meanwhile",
    "point_of_no_return": "its point of no return",
    "affected_by": "which changes of the order concern it",
    "workflow": "the sub-process that it is part of",
}
_SAID_OTHERWISE = frozenset({"target", "action", "depends_on", "key", "item"})
_DOCUMENT: Mapping[str, str] = {
    "title": "title",
    "fulfils": "offerings that it fulfils",
    "subprocess": "what the sub-process takes and hands back",
    "on_failure": "what happens when a task fails for good",
    "stalls_after": "how long nothing may happen",
    "deadline": "deadline",
    "provides": "what it provides",
    "billing_trigger": "what billing begins with",
    "billing": "billing",
    "entitlement": "what may be used before it is billed",
    "activation": "task that activates the service",
    "messages": "messages to the customer",
    "tell_delay_after": "delay that the customer is told of",
    "priority": "priority",
    "locks": "what the whole order locks",
    "feasibility": "what is asked before an order is accepted",
    "retry_policies": "named ways of trying again",
    "milestones": "milestones",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """What became of one task; `what` are its parts, in words, when it has changed."""

    fate: Fate
    key: str
    """As in the workflow; of a sub-process with the name of the task that uses it."""
    title: str
    what: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionChanges:
    tasks: tuple[TaskChange, ...]
    """In the order of the newer version, then those that it has no more."""
    rest: tuple[str, ...]
    """What changed beside the tasks."""
    document: str
    """The difference of the documents, line by line."""


def version_changes(
    *,
    before: WorkflowDefinition,
    after: WorkflowDefinition,
    library: Mapping[Used, WorkflowDefinition],
) -> VersionChanges:
    """`library` holds the sub-processes of both; what uses no version of one has the newest."""
    old, new = sketch(before, library=library), sketch(after, library=library)
    return VersionChanges(
        tasks=tuple(_tasks(old, new)),
        rest=tuple(_rest(before, after)),
        document="\n".join(
            difflib.unified_diff(
                _lines(before),
                _lines(after),
                f"{before.name} v{before.version}",
                f"{after.name} v{after.version}",
                lineterm="",
            )
        ),
    )


def _tasks(old: Graph, new: Graph) -> Iterable[TaskChange]:
    compared = compare(before=old, after=new, tasks=())
    found = {change.key: change for change in compared.changes}
    for node in new.nodes:
        before = old.nodes[old.by_key[node.key]] if node.key in old.by_key else None
        change = found.get(node.key)
        if before is None:
            yield TaskChange(fate=Fate.ADDED, key=_name(node), title=node.title)
            continue
        what = list(_parts(old, before, new, node, change.what if change else ()))
        if what:
            yield TaskChange(fate=Fate.CHANGED, key=_name(node), title=node.title, what=tuple(what))
    for node in old.nodes:
        if node.key not in new.by_key:
            yield TaskChange(fate=Fate.REMOVED, key=_name(node), title=node.title)


def _name(node: Node) -> str:
    return node.key.partition("@")[0]


def _parts(old: Graph, before: Node, new: Graph, node: Node, parts: Iterable[str]) -> Iterable[str]:
    if before.title != node.title:
        yield f"its title, before “{before.title}”"
    if (before.target, before.action) != (node.target, node.action):
        yield (
            f"who does it: {before.target or 'the engine'} {before.action}".rstrip()
            + f" → {node.target or 'the engine'} {node.action}".rstrip()
        )
    differing = list(parts)
    if "depends_on" in differing:
        yield from _dependencies(old, before, new, node)
    for part in differing:
        if part not in _SAID_OTHERWISE:
            yield _PARTS.get(part, part.replace("_", " "))


def _dependencies(old: Graph, before: Node, new: Graph, node: Node) -> Iterable[str]:
    had = {old.nodes[one].key: old.nodes[one].title for one in old.predecessors[before.index]}
    has = {new.nodes[one].key: new.nodes[one].title for one in new.predecessors[node.index]}
    more = [title for key, title in has.items() if key not in had]
    less = [title for key, title in had.items() if key not in has]
    if more:
        yield f"waits for {_listed(more)} too"
    if less:
        yield f"no longer waits for {_listed(less)}"
    if not more and not less:
        yield "on what terms it waits for others"


def _listed(titles: Iterable[str]) -> str:
    return ", ".join(f"“{title}”" for title in titles)


def _rest(before: WorkflowDefinition, after: WorkflowDefinition) -> Iterable[str]:
    old, new = definition_document(before), definition_document(after)
    for name in dict.fromkeys([*old, *new]):
        if name in ("workflow", "version", "tasks") or old.get(name) == new.get(name):
            continue
        words = _DOCUMENT.get(name, name.replace("_", " "))
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict | list) or isinstance(other, dict | list):
            yield words
        else:
            yield f"{words}: {_plain(one)} → {_plain(other)}"


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _lines(definition: WorkflowDefinition) -> list[str]:
    text = json.dumps(definition_document(definition), indent=2, ensure_ascii=False)
    return text.splitlines()
