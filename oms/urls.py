"""Where requests go."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from fulfillment.admin.boards import Locks, Targets
from fulfillment.admin.pages import page_paths
from fulfillment.admin.workflows import Workflows
from oms.admin.orders import order_page
from oms.admin.reports import Reports, report_paths
from oms.admin.today import Today

handler400 = "oms.api.problems.bad_request"
handler404 = "oms.api.problems.not_found"
handler500 = "oms.api.problems.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/orders/<str:reference>", order_page, name="order_page"),
    # Instead of the list of all models; `admin:index` is its address all the same.
    path("admin/", admin.site.admin_view(Today.as_view()), name="desk_today"),
    *page_paths(
        [
            Reports,
            Targets,
            Locks,
            Workflows,
        ]
    ),
    *report_paths(),
    path("admin/", admin.site.urls),
    path("api/", include("oms.api.urls")),
]
