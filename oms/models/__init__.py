"""Tables of the order desk."""

from oms.models.amendments import (
    AMENDMENT_OPEN,
    AmendmentRequest,
    AmendmentState,
    Mode,
    OrderRevision,
)
from oms.models.assets import Asset, AssetState, PendingAsset
from oms.models.billing import BillingMatch, Leak
from oms.models.cancellation import CancellationRequest, CancellationState
from oms.models.clients import ApiClient, ApiKey, Scope, Submission
from oms.models.figures import CountedDay, Figure, Measure
from oms.models.notifications import Notification, NotificationState
from oms.models.orders import Milestone, Order, OrderItem

__all__ = [
    "AMENDMENT_OPEN",
    "AmendmentRequest",
    "AmendmentState",
    "ApiClient",
    "ApiKey",
    "Asset",
    "AssetState",
    "BillingMatch",
    "CancellationRequest",
    "CancellationState",
    "CountedDay",
    "Figure",
    "Leak",
    "Measure",
    "Milestone",
    "Mode",
    "Notification",
    "NotificationState",
    "Order",
    "OrderItem",
    "OrderRevision",
    "PendingAsset",
    "Scope",
    "Submission",
]
