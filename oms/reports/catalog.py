"""All reports, as people read them: money first, then time, quality and people."""

from __future__ import annotations

from collections.abc import Mapping

from oms.reports import counted, standing
from oms.reports.report import Report

GROUPS: Mapping[str, tuple[Report, ...]] = {
    "Money": (standing.UNBILLED, standing.UNSERVED),
    "Time": (counted.CYCLE_TIMES, counted.PLAN_TIMES, standing.STUCK),
    "Target systems": (counted.TASK_SUCCESS, counted.RETRIES, counted.TIMEOUTS_REPORT),
    "Orders that need more": (
        counted.FALLOUT,
        counted.MANUAL,
        counted.COMPENSATION,
        counted.CANCELLATIONS,
    ),
}
REPORTS: Mapping[str, Report] = {
    report.name: report for reports in GROUPS.values() for report in reports
}
