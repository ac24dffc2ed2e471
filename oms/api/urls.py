"""Routes of the API. An address that fits none is a 404 before any code of ours runs."""

from __future__ import annotations

from django.urls import path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from oms.api.amendments import Amend, OrderAmendment, OrderAmendments
from oms.api.approvals import (
    ApprovalApprove,
    ApprovalDetail,
    ApprovalRefuse,
    Approvals,
    ApprovalWithdraw,
)
from oms.api.assets import AssetDetail, Assets
from oms.api.bulk_jobs import (
    BulkCancel,
    BulkDetail,
    BulkJobs,
    BulkLeaveOut,
    BulkLookAgain,
    BulkPause,
    BulkResume,
    BulkRowFile,
    BulkRowList,
    BulkStart,
)
from oms.api.callbacks import Callbacks
from oms.api.cancellations import CancellationDetail, OrderCancel, OrderCancellations
from oms.api.cases import CaseDetail, Cases, IncidentDetail, Incidents
from oms.api.commands import CommandDetail
from oms.api.evidence import OrderEvidence
from oms.api.health import Health
from oms.api.holds import HoldRelease, OrderHolds
from oms.api.manual_tasks import ManualDecision, ManualDetail, ManualTasks
from oms.api.manual_work import ManualWork, ManualWorkDetail
from oms.api.operations import OfferedOperations, OperationPreviews, Operations
from oms.api.orders import OrderDetail, OrderGraph, Orders, OrderTimeline
from oms.api.signals import OrderMilestones, Signals
from oms.api.tasks import TaskRetry
from oms.api.why import OrderWhy

_ORDER = r"^v1/orders/(?P<reference>O-[0-9]{1,18})"
_APPROVAL = r"^v1/approvals/(?P<approval_id>[0-9]{1,18})"
_MANUAL = r"^v1/manual-tasks/(?P<manual_id>[0-9]{1,18})"
_BULK = r"^v1/bulk-jobs/(?P<job_id>[0-9]{1,18})"
# Keys of tasks have slashes and brackets in them: `main/enrich@2[7]`.
_TASK = rf"{_ORDER}/tasks/(?P<task>.{{1,200}})"

urlpatterns = [
    path("v1/orders", Orders.as_view()),
    re_path(rf"{_ORDER}$", OrderDetail.as_view()),
    re_path(rf"{_ORDER}/timeline$", OrderTimeline.as_view()),
    re_path(rf"{_ORDER}/graph$", OrderGraph.as_view()),
    re_path(rf"{_ORDER}/why$", OrderWhy.as_view()),
    re_path(rf"{_ORDER}/evidence$", OrderEvidence.as_view()),
    re_path(rf"{_ORDER}/amend$", Amend.as_view()),
    re_path(rf"{_ORDER}/amendments$", OrderAmendments.as_view()),
    re_path(rf"{_ORDER}/amendments/(?P<number>[0-9]{{1,9}})$", OrderAmendment.as_view()),
    re_path(r"^v1/commands/(?P<idempotency_key>[0-9a-f]{64})$", CommandDetail.as_view()),
    re_path(rf"{_ORDER}/holds$", OrderHolds.as_view()),
    re_path(r"^v1/holds/(?P<hold_id>[0-9]{1,18})/release$", HoldRelease.as_view()),
    re_path(rf"{_ORDER}/milestones$", OrderMilestones.as_view()),
    re_path(rf"{_ORDER}/cancel$", OrderCancel.as_view()),
    re_path(rf"{_ORDER}/cancellations$", OrderCancellations.as_view()),
    re_path(rf"{_ORDER}/cancellations/(?P<number>[0-9]{{1,9}})$", CancellationDetail.as_view()),
    path("v1/signals", Signals.as_view()),
    re_path(rf"{_TASK}/retry$", TaskRetry.as_view()),
    path("v1/manual-tasks", ManualTasks.as_view()),
    re_path(rf"{_MANUAL}$", ManualDetail.as_view()),
    re_path(rf"{_MANUAL}/decision$", ManualDecision.as_view()),
    path("v1/manual-work", ManualWork.as_view()),
    re_path(r"^v1/manual-work/(?P<manual_id>[0-9]{1,18})$", ManualWorkDetail.as_view()),
    path("v1/operations", Operations.as_view()),
    path("v1/operations/offered", OfferedOperations.as_view()),
    path("v1/operations/preview", OperationPreviews.as_view()),
    path("v1/approvals", Approvals.as_view()),
    re_path(rf"{_APPROVAL}$", ApprovalDetail.as_view()),
    re_path(rf"{_APPROVAL}/approve$", ApprovalApprove.as_view()),
    re_path(rf"{_APPROVAL}/refuse$", ApprovalRefuse.as_view()),
    re_path(rf"{_APPROVAL}/withdraw$", ApprovalWithdraw.as_view()),
    path("v1/cases", Cases.as_view()),
    re_path(r"^v1/cases/(?P<case_id>[0-9]{1,18})$", CaseDetail.as_view()),
    path("v1/incidents", Incidents.as_view()),
    re_path(r"^v1/incidents/(?P<incident_id>[0-9]{1,18})$", IncidentDetail.as_view()),
    path("v1/assets", Assets.as_view()),
    path("v1/assets/<str:asset_id>", AssetDetail.as_view()),
    path("v1/bulk-jobs", BulkJobs.as_view()),
    re_path(rf"{_BULK}$", BulkDetail.as_view()),
    re_path(rf"{_BULK}/rows$", BulkRowList.as_view()),
    re_path(rf"{_BULK}/rows\.csv$", BulkRowFile.as_view()),
    re_path(rf"{_BULK}/start$", BulkStart.as_view()),
    re_path(rf"{_BULK}/pause$", BulkPause.as_view()),
    re_path(rf"{_BULK}/resume$", BulkResume.as_view()),
    re_path(rf"{_BULK}/cancel$", BulkCancel.as_view()),
    re_path(rf"{_BULK}/leave-out$", BulkLeaveOut.as_view()),
    re_path(rf"{_BULK}/look-again$", BulkLookAgain.as_view()),
    path("v1/callbacks/<slug:target>", Callbacks.as_view()),
    path("v1/health", Health.as_view()),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api_docs"),
]
