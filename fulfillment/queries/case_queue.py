"""The queue of cases at a glance: how many wait, for whom, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.contrib.auth.models import User

from fulfillment.engine.store.database import cursor
from fulfillment.models import IS_UNRESOLVED, FalloutCase, RoutingRule
from fulfillment.queries.workload import MOST

_OF_ONE = 500
"""Cases of one person that are looked at."""
_FACETS = ("owner_queue", "category", "severity", "target", "reason_code", "assigned_to")
# In the order of the index that lists go by.
_COUNTS = """
SELECT {facets}, GROUPING({facets}),
    count(*), count(*) FILTER (WHERE is_late), count(*) FILTER (WHERE incident_id IS NULL)
FROM (
    SELECT {facets}, incident_id,
        sla_due_at < fulfillment_now() AND sla_paused_at IS NULL AS is_late
    FROM fulfillment_falloutcase WHERE resolved_at IS NULL
    ORDER BY resolved_at DESC NULLS FIRST, sla_due_at, id DESC LIMIT %s
) still
GROUP BY GROUPING SETS ((), {sets})
""".format(facets=", ".join(_FACETS), sets=", ".join(f"({name})" for name in _FACETS))


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseQueue:
    """Of the open cases; of more than `MOST` of those that are due first."""

    cases: int = 0
    overdue: int = 0
    single: int = 0
    """Without an incident."""
    is_capped: bool = False
    """There are more than were looked at."""
    by: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    """By column (queue, category, severity, target, reason_code, assigned_to) the values and how
    many have them, the most frequent first."""

    def of(self, column: str, value: str) -> int:
        return dict(self.by.get(column, ())).get(value, 0)


def case_queue() -> CaseQueue:
    """One statement."""
    with cursor() as raw:
        raw.execute(_COUNTS, [MOST + 1])
        rows = raw.fetchall()
    bits = len(_FACETS)
    by: dict[str, list[tuple[str, int]]] = {name: [] for name in _FACETS}
    cases = overdue = single = 0
    for *values, grouped, number, late, alone in rows:
        if grouped == 2**bits - 1:
            cases, overdue, single = number, late, alone
        else:
            # The bits of what is grouped by are 0, the first column's is the highest.
            place = next(i for i in range(bits) if not grouped & (1 << (bits - 1 - i)))
            by[_FACETS[place]].append((values[place], number))
    return CaseQueue(
        cases=min(cases, MOST),
        overdue=overdue,
        single=single,
        is_capped=cases > MOST,
        by={name: sorted(found, key=lambda one: (-one[1], one[0])) for name, found in by.items()},
    )


def queues_of(user: User) -> list[str]:
    """The queues that are somebody's: those of the rules that name one of their roles, and those
    of the open cases that they have."""
    roles = user.groups.values("name")
    by_rule = RoutingRule.objects.filter(role__in=roles).values_list("owner_queue").order_by()
    mine = FalloutCase.objects.filter(IS_UNRESOLVED, assigned_to=user.get_username())
    # One by one: somebody has a few of them.
    by_case = mine.exclude(assigned_to="").values_list("owner_queue").order_by()[:_OF_ONE]
    return sorted({queue for (queue,) in by_rule.union(by_case)})
