"""The pages of reports: all of them with their one number, and each with its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse

from fulfillment.admin.pages import Page, may_see
from oms.admin.report_period import chosen_by
from oms.admin.report_plots import plot_of
from oms.admin.report_tables import shown_table
from oms.admin.report_values import written
from oms.figures import reading
from oms.reports import files
from oms.reports.catalog import GROUPS, REPORTS
from oms.reports.report import Report, table_named

PERMISSIONS = ("oms.view_order",)
"""Whoever sees the orders may count them."""


class Reports(Page):
    name = "reports"
    title = "Reports"
    told = "What happened in a time, counted: for each question one number, and behind it a table."
    permissions = PERMISSIONS
    live_seconds = 0
    template_name = "desk/reports/reports.html"

    def content(self) -> Mapping[str, Any]:
        chosen = chosen_by(self.request)
        cells = reading.outcomes(chosen.span)
        groups = []
        for title, reports in GROUPS.items():
            shown = []
            for report in reports:
                head = report.headline(cells)
                shown.append(
                    {
                        "report": report,
                        "number": written(head.value, head.kind),
                        "words": head.words,
                        "address": f"{report_address(report)}?{chosen.query}",
                    }
                )
            groups.append({"title": title, "reports": shown})
        return {"chosen": chosen, "counted": reading.counted(chosen.span), "groups": groups}


class OneReport(Page):
    name = "report"
    title = "Report"
    permissions = PERMISSIONS
    live_seconds = 0
    template_name = "desk/reports/report.html"

    def content(self) -> Mapping[str, Any]:
        report = asked_for(self.kwargs["report"])
        chosen = chosen_by(self.request)
        tables = report.tables(chosen.span)
        return {
            "title": report.title,
            "told": report.told,
            "report": report,
            "chosen": chosen,
            "counted": reading.counted(chosen.span),
            "tables": [shown_table(report, table, chosen) for table in tables],
            "plot": next((plot for table in tables if (plot := plot_of(table))), None),
            "all_reports": f"{reverse('desk_reports')}?{chosen.query}",
            "others": [
                (f"{report_address(other)}?{chosen.query}", other.title, other is report)
                for other in REPORTS.values()
            ],
        }


def report_file(request: HttpRequest, report: str, table: str) -> HttpResponseBase:
    """A table of a report as a file, with all of its rows."""
    if not may_see(request, *PERMISSIONS):
        raise PermissionDenied("You may not see reports.")
    chosen = chosen_by(request)
    found = table_named(asked_for(report).tables(chosen.span, whole=True), table)
    if found is None:
        raise Http404("There is no such table.")
    name = f"{report}-{table}-{chosen.span.first}-{chosen.span.last}.csv"
    return StreamingHttpResponse(
        files.lines(found),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def report_paths() -> list[URLPattern]:
    """The addresses of all reports, of each, and of their files."""
    return [
        path(
            "admin/desk/reports/<slug:report>/<slug:table>.csv",
            admin.site.admin_view(report_file),
            name="desk_report_file",
        ),
        path(
            "admin/desk/reports/<slug:report>",
            admin.site.admin_view(OneReport.as_view()),
            name="desk_report",
        ),
    ]


def report_address(report: Report) -> str:
    return reverse("desk_report", args=[report.name])


def asked_for(name: str) -> Report:
    """Raises Http404."""
    if name not in REPORTS:
        raise Http404("There is no such report.")
    return REPORTS[name]
