"""Where requests go."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from oms.admin.orders import order_page

handler400 = "oms.api.problems.bad_request"
handler404 = "oms.api.problems.not_found"
handler500 = "oms.api.problems.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/orders/<str:reference>", order_page, name="order_page"),
    path("admin/", admin.site.urls),
    path("api/", include("oms.api.urls")),
]
