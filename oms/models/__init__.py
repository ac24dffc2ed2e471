"""Tables of the order desk."""

from oms.models.clients import ApiClient, ApiKey, Scope, Submission
from oms.models.orders import Milestone, Order, OrderItem

__all__ = [
    "ApiClient",
    "ApiKey",
    "Milestone",
    "Order",
    "OrderItem",
    "Scope",
    "Submission",
]
