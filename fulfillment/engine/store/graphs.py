"""Stored graphs: each is parsed once per process and shared by every plan of its shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import psycopg

from fulfillment.definitions.graph import Graph, Node
from fulfillment.definitions.scopes import task_names
from fulfillment.engine.store.database import Row, cursor
from fulfillment.models import Plan, PlanGraph

_ids: dict[str, int] = {}
_versions: dict[int, frozenset[tuple[str, int]]] = {}
_WRITTEN = """
SELECT coalesce(nullif(written, ''), document::text) FROM fulfillment_plangraph WHERE id = %s
"""
_VERSIONS = """
SELECT g.id, array(
    SELECT DISTINCT n->>'workflow' || '@' || (n->>'workflow_version')
    FROM jsonb_array_elements(g.document->'nodes') n
)
FROM fulfillment_plangraph g WHERE g.id = ANY(%s::bigint[])
"""


@lru_cache(maxsize=4096)
def by_id(graph_id: int) -> Graph:
    """The frozen graph of a plan. A stored graph never changes, so neither does the answer."""
    with cursor() as raw:
        raw.execute(_WRITTEN, [graph_id])
        row = raw.fetchone()
    if row is None:
        raise PlanGraph.DoesNotExist(f"graph {graph_id}")
    return Graph.from_document(json.loads(row[0]))


@lru_cache(maxsize=8192)
def routed(graph_id: int, index: int, route: int) -> Node:
    """A node as its task goes about it now: as planned, or by one of its fallbacks."""
    return by_id(graph_id).nodes[index].by(route)


@lru_cache(maxsize=8192)
def names_at(graph_id: int, index: int, element: bool) -> Mapping[str, str]:
    """The types of the names that a task at this place can read, `element` of a fan-out or not."""
    return task_names(graph=by_id(graph_id), index=index, element=element)


def versions_in(*, graph_ids: Iterable[int]) -> dict[int, frozenset[tuple[str, int]]]:
    """By graph, the workflows that it is made of and their versions, sub-processes among them.

    One query for all that this process has not asked for yet, without parsing them.
    """
    wanted = list(graph_ids)
    missing = [one for one in wanted if one not in _versions]
    if missing:
        with cursor() as raw:
            raw.execute(_VERSIONS, [missing])
            for graph_id, named in raw.fetchall():
                pairs = (one.rpartition("@") for one in named)
                _versions[graph_id] = frozenset((name, int(number)) for name, _, number in pairs)
    return {one: _versions[one] for one in wanted if one in _versions}


def known_id(*, graph: Graph) -> int | None:
    """The id of a graph that this process knows to be stored, without asking the database."""
    return _ids.get(graph.sha256)


def store(raw: psycopg.Cursor[Row], *, graph: Graph) -> int:
    """The id of the row that holds this graph, written now if its shape is new."""
    written = json.dumps(graph.document())
    raw.execute(
        "INSERT INTO fulfillment_plangraph (sha256, document, written, created_at) "
        "VALUES (%s, %s, %s, fulfillment_now()) ON CONFLICT (sha256) DO NOTHING",
        [graph.sha256, written, written],
    )
    raw.execute("SELECT id FROM fulfillment_plangraph WHERE sha256 = %s", [graph.sha256])
    row = raw.fetchone()
    assert row is not None
    return int(row[0])


def remember(*, graph: Graph, graph_id: int) -> None:
    """Called after the commit that stored it: an id that was rolled back must not be kept."""
    _ids[graph.sha256] = graph_id


def forget() -> None:
    """For a process that turns to another database."""
    _ids.clear()
    _versions.clear()
    by_id.cache_clear()
    routed.cache_clear()
    names_at.cache_clear()
    milestone_carriers.cache_clear()


def parsed(document: str) -> Mapping[str, Any]:
    """JSON text as it comes from a raw cursor."""
    value: Mapping[str, Any] = json.loads(document)
    return value


def parsed_value(document: str) -> Any:
    """The same for any JSON value."""
    return json.loads(document)


def context_of(plan: Plan) -> Mapping[str, Any]:
    """The order snapshot of a plan, parsed when it is first needed."""
    if isinstance(plan.context, str):
        plan.context = json.loads(plan.context)
    context: Mapping[str, Any] = plan.context
    return context


@lru_cache(maxsize=4096)
def milestone_carriers(graph_id: int) -> Mapping[str, frozenset[int]]:
    """Which nodes must have succeeded before a milestone is reached: one per item, say."""
    carriers: dict[str, set[int]] = {}
    for node in by_id(graph_id).nodes:
        for milestone in node.milestones:
            carriers.setdefault(milestone.name, set()).add(node.index)
    return {name: frozenset(nodes) for name, nodes in carriers.items()}
