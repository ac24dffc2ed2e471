"""What an assessment says, as plain JSON: stored with a request, and shown by a preview."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fulfillment.definitions.assessment import Assessment, Becomes, Fate, Refusal
from fulfillment.definitions.graph import Graph, Node

Names = Mapping[int, str]
"""The items' own names, by position."""


def assessment_document(assessment: Assessment, *, names: Names) -> dict[str, Any]:
    return {
        "tasks": [_fate(fate, names) for fate in assessment.fates],
        "charges": [
            {
                "task": charge.task,
                "items": named(charge.items, names),
                "direction": charge.direction.value,
                "amount": str(charge.amount),
                "currency": charge.currency,
                "reason": charge.reason,
            }
            for charge in assessment.charges
        ],
        "waits_for": list(assessment.in_flight),
    }


def refusals_document(refusals: Iterable[Refusal], *, names: Names) -> list[dict[str, Any]]:
    return [
        {
            "code": refusal.code,
            "message": refusal.message,
            "task": refusal.task or None,
            "items": named(refusal.items, names),
        }
        for refusal in refusals
    ]


def picture(
    *, before: Graph, after: Graph, fates: Iterable[Fate], names: Names
) -> dict[str, list[dict[str, Any]]]:
    """The running plan and the one that would follow it as one graph, by the tasks' keys.

    A task that is in both stands there once. `becomes` is the same word as in the assessment;
    what nobody has begun and stays as it is, is `kept`.
    """
    said = {fate.key: fate.becomes for fate in fates}
    known = {node.key for node in before.nodes}
    nodes = {node.key: node for graph in (before, after) for node in graph.nodes}
    wanted = {node.key for node in after.nodes}
    edges: dict[tuple[str, str, str], dict[str, Any]] = {}
    for graph in (before, after):
        for edge in graph.edges:
            source, target = graph.nodes[edge.source].key, graph.nodes[edge.target].key
            kind = edge.type.value.lower()
            edges.setdefault((source, target, kind), {"from": source, "to": target, "type": kind})
    return {
        "nodes": [
            _node(node, said.get(key) or _unsaid(key, known, wanted), names)
            for key, node in nodes.items()
        ],
        "edges": list(edges.values()),
    }


def _unsaid(key: str, known: Iterable[str], wanted: Iterable[str]) -> Becomes:
    """Of a node without a task: a branch that was not taken, or not yet."""
    if key not in known:
        return Becomes.NEW
    return Becomes.KEPT if key in wanted else Becomes.WITHDRAWN


def _node(node: Node, becomes: Becomes, names: Names) -> dict[str, Any]:
    return {
        "task": node.key,
        "title": node.title,
        "kind": node.kind.value.lower(),
        "items": named(node.items, names),
        "target": node.target or None,
        "action": node.action or None,
        "becomes": becomes.value,
    }


def _fate(fate: Fate, names: Names) -> dict[str, Any]:
    return {
        "task": fate.key,
        "title": fate.title,
        "becomes": fate.becomes.value,
        "items": named(fate.items, names),
        "is_done": fate.is_done,
        "undo": fate.undo or None,
        "why": fate.why,
        "customer_impact": fate.customer_impact,
        "financial_impact": fate.financial_impact,
        "legal_impact": fate.legal_impact,
    }


def named(positions: Iterable[int], names: Names) -> list[str]:
    """What items are called by whoever has ordered them."""
    return [names.get(position, str(position)) for position in positions]
