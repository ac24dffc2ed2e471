"""What the language means, written down a second time: which tasks of a plan exist.

The engine decides this when a decision is made, and then only adds; here it is worked out from
the stored graph and from what was decided, all at once and afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos.evidence import Evidence, Row

SUCCESSFUL = frozenset({"SUCCEEDED", "SKIPPED_BY_POLICY", "WAIVED_BY_AUTHORIZED_USER"})
_ACTIVE = """
SELECT p.id, p.state, p.graph_id, p.mandatory_open, f.order_reference AS "order"
FROM fulfillment_plan p JOIN fulfillment_fulfillment f ON f.id = p.fulfillment_id
WHERE p.state <> 'SUPERSEDED' ORDER BY p.id
"""
_TASKS = """
SELECT t.id, t.plan_id, t.node, t.element, t.key, t.state, t.awaits, t.outputs
FROM fulfillment_task t JOIN fulfillment_plan p ON p.id = t.plan_id
WHERE t.round = 0 AND p.state <> 'SUPERSEDED' ORDER BY t.id
"""


@dataclass(frozen=True)
class Graph:
    """A stored graph, as its document says."""

    document: Mapping[str, Any]

    @property
    def nodes(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.document["nodes"]
        return found

    @cached_property
    def into(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        """Edges by the node that they lead to."""
        found: dict[int, list[Mapping[str, Any]]] = {node["index"]: [] for node in self.nodes}
        for edge in self.document["edges"]:
            found[edge["target"]].append(edge)
        return found

    def group(self, index: int) -> int | None:
        """The SPREAD node for whose elements a node stands; None: for the plan."""
        group: int | None = self.nodes[index].get("group")
        return group

    def existence(self, *, element: int, tasks: Mapping[tuple[int, int], Row]) -> list[bool | None]:
        """Whether each node has a task: yes, never, or nobody knows yet.

        What stands in an element is seen from that element; seen from outside it exists with
        its list.
        """
        found: list[bool | None] = []
        for index, node in enumerate(self.nodes):  # None stands before what it depends on.
            if node.get("group") is not None and not element:
                found.append(found[node["group"]])
                continue
            before = [] if node.get("enter") is None else [found[node["enter"]]]
            for edge in self.into[index]:
                if self._chooses(edge):
                    before.append(found[edge["source"]] and self._chosen(edge, element, tasks))
                elif edge["type"] == "ELEMENT" or not node.get("deferred"):
                    before.append(found[edge["source"]])
            found.append(False if False in before else None if None in before else True)
        return found

    def _chooses(self, edge: Mapping[str, Any]) -> bool:
        """Whether what the edge leads to exists by the choice of where it comes from."""
        if edge["type"] == "CHOICE":
            return True
        if edge["type"] != "HUMAN":
            return False
        outcomes = (self.nodes[edge["source"]].get("manual") or {}).get("outcomes", {})
        return set(edge["labels"]) != {name for name, does in outcomes.items() if does == "proceed"}

    def _chosen(
        self, edge: Mapping[str, Any], element: int, tasks: Mapping[tuple[int, int], Row]
    ) -> bool | None:
        source = edge["source"]
        task = tasks.get((source, element if self.group(source) is not None else 0))
        if task is None or task["state"] not in SUCCESSFUL:
            return None
        return not set(edge["labels"]).isdisjoint(choice(self.nodes[source], task))


@dataclass(frozen=True)
class Plan:
    """An active plan with its tasks by place: node, and element of a fan-out or 0."""

    row: Row
    graph: Graph
    tasks: Mapping[tuple[int, int], Row]


def choice(node: Mapping[str, Any], task: Row) -> list[str]:
    """What a decided task has chosen: branches, or an outcome."""
    outputs = task["outputs"] or {}
    return [outputs.get("outcome", "")] if node["kind"] == "MANUAL" else outputs.get("created", [])


def plans(evidence: Evidence) -> list[Plan]:
    """Every plan that no other has taken the place of."""
    graphs = {
        row["id"]: Graph(row["document"])
        for row in evidence.rows("SELECT id, document FROM fulfillment_plangraph")
    }
    tasks: dict[int, dict[tuple[int, int], Row]] = defaultdict(dict)
    for task in evidence.rows(_TASKS):
        tasks[task["plan_id"]][task["node"], task["element"]] = task
    return [Plan(row, graphs[row["graph_id"]], tasks[row["id"]]) for row in evidence.rows(_ACTIVE)]
