"""Which workflow versions there are, which of them new orders get, and what runs on each.

A fixed number of queries, however many plans there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count, Max, QuerySet

from fulfillment.engine.store import graphs
from fulfillment.models import Plan, WorkflowSelector, WorkflowVersion
from fulfillment.states import PLAN_TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInUse:
    """One published version of a workflow, or of a sub-process."""

    workflow: WorkflowVersion
    """Without its document."""
    is_chosen: bool
    """New orders get it: no newer one is published."""
    fulfils: Mapping[str, tuple[str, ...]]
    """Offering -> actions; empty: a sub-process, which runs only within others."""
    under_way: int
    """Plans that are not over and that it is a part of."""


def offerings() -> list[str]:
    """What may be ordered: all that a published workflow fulfils, by name."""
    rows = WorkflowSelector.objects.order_by("offering").values_list("offering", flat=True)
    return list(rows.distinct())


def versions_in_use(*, name: str | None = None) -> list[VersionInUse]:
    """By name, the newest version first; only those of one workflow if it is named."""
    rows = WorkflowVersion.objects.defer("document", "written").prefetch_related("selectors")
    newest = dict(
        WorkflowVersion.objects.order_by().values_list("name").annotate(newest=Max("version"))
    )
    counts = plans_under_way()
    found = []
    for row in rows if name is None else rows.filter(name=name):
        fulfils: dict[str, list[str]] = {}
        for selector in row.selectors.all():
            fulfils.setdefault(selector.offering, []).append(selector.action)
        found.append(
            VersionInUse(
                workflow=row,
                is_chosen=row.version == newest[row.name],
                fulfils={
                    offering: tuple(sorted(actions))
                    for offering, actions in sorted(fulfils.items())
                },
                under_way=counts.get((row.name, row.version), 0),
            )
        )
    return found


def plans_under_way() -> Mapping[tuple[str, int], int]:
    """By name and version, how many plans that are not over are made of it."""
    by_graph = dict(_under_way().values_list("graph").annotate(count=Count("pk")))
    versions = graphs.versions_in(graph_ids=by_graph)
    found: Counter[tuple[str, int]] = Counter()
    for graph_id, count in by_graph.items():
        for one in versions.get(graph_id, ()):
            found[one] += count
    return found


def graphs_under_way(*, name: str, version: int) -> list[int]:
    """The shapes made of this version of which a plan is not over."""
    running = list(_under_way().values_list("graph", flat=True).distinct())
    versions = graphs.versions_in(graph_ids=running)
    return [one for one in running if (name, version) in versions.get(one, ())]


def _under_way() -> QuerySet[Plan]:
    # As the index says it.
    return Plan.objects.exclude(state__in=sorted(PLAN_TERMINAL)).order_by()
