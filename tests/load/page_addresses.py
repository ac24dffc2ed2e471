"""Every page that somebody may open: lists and what they are narrowed by, reports, one of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from fulfillment.models import FalloutCase, ManualTask, Resource, Task
from fulfillment.queries.workload import Age, Due
from oms.admin.report_period import PERIODS
from oms.admin.reports import report_address
from oms.models import Order
from oms.reports.catalog import REPORTS
from tests.load.large import Large, asked_of

_LIST = re.compile(r'href="(/admin/[^"]+/\?[^"]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One page, or one region of it that looks at itself again."""

    address: str
    region: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    like: str = ""
    """The page that needs as many queries, where this one is there in a full system alone."""

    @property
    def path(self) -> str:
        return f"{self.address}?{urlencode(self.query)}" if self.query else self.address

    @property
    def headers(self) -> dict[str, str]:
        return {"HX-Request": "true", "HX-Target": self.region} if self.region else {}


def pages(client: Client, large: Large) -> dict[str, Asked]:
    """By name, as they are in a system that is nearly empty."""
    found = dict(_of_the_side_bar())
    found |= _of_models()
    found |= _behind_today(client, {one.path for one in found.values()})
    found |= _reports()
    found |= _of_large(large)
    waiting = Order.objects.exclude(state="COMPLETED").exclude(pk=large.order.pk).order_by("pk")
    for number, pk in enumerate(waiting.values_list("pk", flat=True), start=1):
        page = Asked(address=reverse("admin:oms_order_change", args=[pk]))
        found[f"order that waits, {number}"] = page
    return found


def second_pages(client: Client, known: Mapping[str, Asked]) -> dict[str, Asked]:
    """Of those lists that go on: a list asked for what it has not got leads back to its first."""
    found = {}
    for name, one in known.items():
        if name.startswith("all ") and not one.query:
            page = Asked(address=one.address, query={"p": "2"}, like=name)
            if client.get(page.path).status_code == 200:
                found[f"{name}, page 2"] = page
    return found


def _of_the_side_bar() -> Iterator[tuple[str, Asked]]:
    for group in settings.UNFOLD["SIDEBAR"]["navigation"]:
        for line in group["items"]:
            if str(line["link"]).startswith("/admin/"):
                yield f"{group['title']}: {line['title']}", Asked(address=str(line["link"]))


def _of_models() -> dict[str, Asked]:
    """Each model's list, the same searched, and the page of its newest row."""
    found = {}
    for model, its_admin in admin.site._registry.items():
        meta = model._meta
        page = f"admin:{meta.app_label}_{meta.model_name}"
        name, listed = f"all {meta.verbose_name_plural}", reverse(f"{page}_changelist")
        found[name] = Asked(address=listed)
        if its_admin.search_fields:
            found[f"{name}, searched"] = Asked(address=listed, query={"q": "O-1"})
        newest = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
        if newest is not None:
            address = reverse(f"{page}_change", args=[newest])
            found[f"one {meta.verbose_name}"] = Asked(address=address)
    return found


def _behind_today(client: Client, known: set[str]) -> dict[str, Asked]:
    """What its numbers lead to; and what they would, had they something to count."""
    shown = client.get(reverse("admin:index")).content.decode()
    lists = {unescape(address) for address in _LIST.findall(shown)}
    orders, cases, manual = (
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        for model in (Order, FalloutCase, ManualTask)
    )
    lists |= {f"{orders}?stuck={age.value}" for age in Age}
    lists |= {f"{orders}?needs={what}" for what in ("at-risk", "high-value")}
    lists |= {f"{orders}?ended=today", f"{orders}?q=Nobody"}
    lists |= {f"{listed}?due={due.value}" for listed in (cases, manual) for due in Due}
    return {
        f"list {address.removeprefix('/admin/')}": Asked(address=address)
        for address in sorted(lists - known)
    }


def _reports() -> dict[str, Asked]:
    return {
        f"report {name}, {period}": Asked(address=report_address(one), query={"period": period})
        for name, one in REPORTS.items()
        for period in PERIODS
    }


def _of_large(large: Large) -> dict[str, Asked]:
    order = reverse("admin:oms_order_change", args=[large.order.pk])
    plan = large.order.fulfillment.plans.get()
    task = Task.objects.filter(plan=plan, state="AWAITING_MANUAL").first() or plan.tasks.first()
    assert task is not None
    graph = reverse("admin:fulfillment_plangraph_change", args=[plan.graph_id])
    cases = reverse("admin:fulfillment_falloutcase_changelist")
    found = {
        "order of 500 tasks": Asked(address=order),
        "order of 500 tasks, how it stands": Asked(address=order, region="order-now"),
        "order of 500 tasks, its picture": Asked(address=order, region="order-plan"),
        "order of 500 tasks, what has happened": Asked(address=order, region="order-entries"),
        "order of 500 tasks, oldest first": Asked(address=order, query={"sort": "oldest"}),
        "order of 500 tasks, only trouble": Asked(address=order, query={"trouble": "1"}),
        "order of 500 tasks, attempts": Asked(address=order, query={"kind": "attempt"}),
        "order of 500 tasks, of one task": Asked(address=order, query={"task": task.key}),
        "plan of 500 tasks": Asked(address=_page(plan)),
        "graph of 500 tasks": Asked(address=graph),
        "task among 500": Asked(address=_page(task)),
        "incident of 10,000 cases": Asked(address=_page(large.incident)),
        "case among 10,000 of one incident": Asked(address=_page(large.case)),
        "cases of one incident": Asked(
            address=cases,
            query={"incident__id__exact": str(large.incident.pk), "resolved_at__isempty": "1"},
        ),
        "bulk job of 10,000 rows": Asked(address=_page(large.job)),
    }
    for action, subject in asked_of(large).items():
        address = reverse("admin:fulfillment_operate", args=[action, subject])
        found[f"form of {action}"] = Asked(address=address)
    for kind in Resource.objects.order_by("pk").values_list("pk", flat=True)[:1]:
        found["locks of one kind"] = Asked(address=reverse("desk_locks"), query={"kind": kind})
    return found


def _page(row: object) -> str:
    meta = row._meta  # type: ignore[attr-defined]
    name = f"admin:{meta.app_label}_{meta.model_name}_change"
    return reverse(name, args=[row.pk])  # type: ignore[attr-defined]
