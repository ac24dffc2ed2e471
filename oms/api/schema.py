"""What the OpenAPI document says about parameters and errors."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, PolymorphicProxySerializer
from pydantic import BaseModel

from fulfillment.models import (
    BulkState,
    CaseCategory,
    CaseState,
    IncidentState,
    ManualOrigin,
    ManualState,
    RowState,
    Severity,
)
from oms.api.documents import ProblemOut
from oms.api.problems import CONTENT_TYPE
from oms.states import OrderState

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    OpenApiTypes.STR,
    location=OpenApiParameter.HEADER,
    description="Sent again with the same body it repeats the first answer and does nothing; "
    "with another body it is refused with 409.",
)
WEBHOOK = [
    OpenApiParameter(
        name, OpenApiTypes.STR, location=OpenApiParameter.HEADER, required=True, description=text
    )
    for name, text in (
        ("webhook-id", "The report's id, the same whenever it is repeated."),
        ("webhook-timestamp", "Unix seconds; at most five minutes off."),
        (
            "webhook-signature",
            "`v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`; several with "
            "spaces between them.",
        ),
    )
]
_ORDER: dict[str, Any] = {
    "external_id": "WEB-1001",
    "customer": {"id": "C-1", "name": "Lakeside Clinic"},
    "billing_account": "BA-1",
    "items": [
        {
            "item_id": "1",
            "action": "add",
            "offering": "headset-pro",
            "quantity": 2,
            "price": {"one_off": "99.00", "currency": "EUR"},
            "place": {"id": "ADDR-7"},
        }
    ],
}
SUBMISSIONS = [
    OpenApiExample("One order", _ORDER, request_only=True),
    OpenApiExample(
        "Many orders",
        {"orders": [_ORDER, {**_ORDER, "external_id": "WEB-1002"}]},
        request_only=True,
    ),
]
PREVIEW = OpenApiParameter(
    "preview", OpenApiTypes.BOOL, description="Shows what it would mean, and changes nothing."
)
AMENDMENTS = [
    OpenApiExample(
        "One more",
        {
            "version": 2,
            "reason": "The customer wants three.",
            "order": {**_ORDER, "items": [{**_ORDER["items"][0], "quantity": 3}]},
        },
        request_only=True,
    )
]
HOLDS = [
    OpenApiExample(
        "A whole order",
        {"scope": "order", "reason": "The customer's address is being clarified."},
        request_only=True,
    ),
    OpenApiExample(
        "One line, until a time",
        {
            "scope": "item",
            "item": "1",
            "reason": "Stock count.",
            "until": "2026-09-01T08:00:00Z",
        },
        request_only=True,
    ),
]
PREVIEW = OpenApiParameter(
    "preview", OpenApiTypes.BOOL, description="Tell what it would mean, and change nothing."
)
CANCELLATIONS = [
    OpenApiExample("A customer's wish", {"reason": "Ordered by mistake."}, request_only=True)
]
MILESTONES = [
    OpenApiExample(
        "An appointment",
        {
            "name": "appointment_confirmed",
            "event_id": "crm-4711",
            "payload": {"slot": "2026-09-01T08:00:00Z"},
        },
        request_only=True,
    )
]
SIGNALS = [
    OpenApiExample(
        "A payment",
        {"name": "payment_received", "key": "INV-7", "event_id": "bank-20260901-3"},
        request_only=True,
    )
]
DECISIONS = [
    OpenApiExample(
        "With a value",
        {"outcome": "approved", "values": {"limit": 500}, "reason": "A known customer."},
        request_only=True,
    )
]
OPERATIONS = [
    OpenApiExample(
        "Try a task again",
        {
            "action": "task.retry",
            "subject": "task:12",
            "reason": "The carrier has opened the street for us.",
        },
        request_only=True,
    )
]
SUBJECT = OpenApiParameter(
    "subject",
    OpenApiTypes.STR,
    required=True,
    description="Such as `task:12`, `order:O-17`, `case:4` or `target:billing`.",
)
EVIDENCE_REASON = OpenApiParameter(
    "reason",
    OpenApiTypes.STR,
    required=True,
    description="Why it is taken; the record keeps it.",
)
TASK = OpenApiParameter(
    "task",
    OpenApiTypes.STR,
    location=OpenApiParameter.PATH,
    description="The task's key as in `waiting` and in the graph, percent-encoded: "
    "`enrich@1%5B2%5D` for `enrich@1[2]`. A slash in it may stay as it is.",
)
MANUAL_FILTERS = [
    OpenApiParameter("queue", OpenApiTypes.STR, description="The desk that it lies on."),
    OpenApiParameter("role", OpenApiTypes.STR, description="Who is to decide."),
    OpenApiParameter("state", OpenApiTypes.STR, enum=[s.value for s in ManualState]),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]
MANUAL_WORK_FILTERS = [
    OpenApiParameter(
        "state",
        OpenApiTypes.STR,
        enum=["open", "all", *(s.value for s in ManualState)],
        description="Default: open, those that are not decided.",
    ),
    OpenApiParameter("origin", OpenApiTypes.STR, enum=[one.value for one in ManualOrigin]),
    OpenApiParameter("queue", OpenApiTypes.STR),
    OpenApiParameter("role", OpenApiTypes.STR),
    OpenApiParameter("claimed_by", OpenApiTypes.STR, description="User name."),
    OpenApiParameter("order", OpenApiTypes.STR, description="Its reference."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most 200; default: 50."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]
CASE_FILTERS = [
    OpenApiParameter(
        "state",
        OpenApiTypes.STR,
        enum=[*(s.value for s in CaseState), "open", "all"],
        description="`open`, unless given: whatever is not RESOLVED.",
    ),
    OpenApiParameter("queue", OpenApiTypes.STR, description="Who sees to it."),
    OpenApiParameter("category", OpenApiTypes.STR, enum=[c.value for c in CaseCategory]),
    OpenApiParameter("severity", OpenApiTypes.STR, enum=[s.value for s in Severity]),
    OpenApiParameter("reason_code", OpenApiTypes.STR),
    OpenApiParameter("target", OpenApiTypes.STR, description="Target system."),
    OpenApiParameter("assigned_to", OpenApiTypes.STR, description="A user name."),
    OpenApiParameter("incident", OpenApiTypes.INT, description="Number of an incident."),
    OpenApiParameter("overdue", OpenApiTypes.BOOL, description="Only those whose time is over."),
    OpenApiParameter("order", OpenApiTypes.STR, description="Such as O-17."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]
INCIDENT_FILTERS = [
    OpenApiParameter(
        "state",
        OpenApiTypes.STR,
        enum=[*(s.value for s in IncidentState), "open", "all"],
        description="`open`, unless given: whatever is not RESOLVED.",
    ),
    OpenApiParameter("target", OpenApiTypes.STR, description="Target system."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]
BULK_FILTERS = [
    OpenApiParameter("state", OpenApiTypes.STR, enum=[s.value for s in BulkState]),
    OpenApiParameter("incident", OpenApiTypes.INT, description="Those that release it."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last id of the page before."),
]
BULK_ROW_FILTERS = [
    OpenApiParameter("state", OpenApiTypes.STR, enum=[s.value for s in RowState]),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 1000; 200 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last position seen."),
]
ORDER_FILTERS = [
    OpenApiParameter("state", OpenApiTypes.STR, many=True, enum=[s.value for s in OrderState]),
    OpenApiParameter("customer", OpenApiTypes.STR, description="The customer's id."),
    OpenApiParameter("external_id", OpenApiTypes.STR, description="Your own name for the order."),
    OpenApiParameter("submitted_from", OpenApiTypes.DATETIME, description="Then or later."),
    OpenApiParameter("submitted_before", OpenApiTypes.DATETIME, description="Before then."),
    OpenApiParameter("stuck", OpenApiTypes.BOOL, description="Flagged by the detector, or not."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.STR, description="The last id of the page before."),
]
ASSET_FILTERS = [
    OpenApiParameter("customer", OpenApiTypes.STR, required=True, description="The customer's id."),
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 200; 50 unless given."),
    OpenApiParameter("after", OpenApiTypes.STR, description="The last id of the page before."),
]
PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="1 to 1000; 200 unless given."),
    OpenApiParameter("after", OpenApiTypes.INT, description="The last sequence number seen."),
]


def problems(*statuses: int) -> dict[Any, Any]:
    """Responses of `extend_schema` for these HTTP statuses."""
    return {(status, CONTENT_TYPE): ProblemOut for status in statuses}


def one_of(name: str, *models: type[BaseModel]) -> PolymorphicProxySerializer:
    """A body that is one of several; which one, its own members tell."""
    members: Any = list(models)
    return PolymorphicProxySerializer(
        component_name=name, serializers=members, resource_type_field_name=None
    )
