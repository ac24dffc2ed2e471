"""Routes of the API. An address that fits none is a 404 before any code of ours runs."""

from __future__ import annotations

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from oms.api.assets import AssetDetail, Assets
from oms.api.callbacks import Callbacks
from oms.api.commands import CommandDetail
from oms.api.health import Health
from oms.api.holds import HoldRelease, OrderHolds
from oms.api.orders import OrderDetail, OrderGraph, Orders, OrderTimeline

_ORDER = r"^v1/orders/(?P<reference>O-[0-9]{1,18})"

urlpatterns = [
    path("v1/orders", Orders.as_view()),
    re_path(rf"{_ORDER}$", OrderDetail.as_view()),
    re_path(rf"{_ORDER}/timeline$", OrderTimeline.as_view()),
    re_path(rf"{_ORDER}/graph$", OrderGraph.as_view()),
    re_path(r"^v1/commands/(?P<idempotency_key>[0-9a-f]{64})$", CommandDetail.as_view()),
    re_path(rf"{_ORDER}/holds$", OrderHolds.as_view()),
    re_path(r"^v1/holds/(?P<hold_id>[0-9]{1,18})/release$", HoldRelease.as_view()),
    path("v1/assets", Assets.as_view()),
    path("v1/assets/<str:asset_id>", AssetDetail.as_view()),
    path("v1/callbacks/<slug:target>", Callbacks.as_view()),
    path("v1/health", Health.as_view()),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema")),
]
