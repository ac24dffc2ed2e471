"""How the states of orders, plans and what belongs to them look on an order's page."""

from __future__ import annotations

from collections.abc import Mapping

from fulfillment.admin.messages import DISPOSITION_SIGNS
from fulfillment.admin.reading import Badge, register_signs
from fulfillment.admin.sending import OUTCOME_SIGNS
from fulfillment.admin.subscribers import DELIVERY_SIGNS
from fulfillment.definitions.signs import Sign
from fulfillment.states import PlanState
from oms.admin.customers import NOTIFICATION_SIGNS
from oms.models import Leak
from oms.queries.item_progress import Is
from oms.states import OrderState

ORDER_SIGNS: Mapping[OrderState, Sign] = {
    OrderState.SUBMITTED: ("○", "waiting"),
    OrderState.VALIDATING: ("◔", "moving"),
    OrderState.REJECTED: ("✗", "failed"),
    OrderState.READY_FOR_FULFILLMENT: ("◔", "moving"),
    OrderState.IN_PROGRESS: ("▶", "moving"),
    OrderState.COMPLETED: ("✓", "done"),
    OrderState.PARTIALLY_COMPLETED: ("◐", "trouble"),
    OrderState.FAILED: ("✗", "failed"),
    OrderState.ASSESSING_CANCELLATION: ("↶", "moving"),
    OrderState.CANCELLING: ("↶", "moving"),
    OrderState.CANCELLED: ("⊘", "failed"),
}
PLAN_WORDS: Mapping[PlanState, str] = {
    PlanState.CREATED: "Its tasks are planned; none has begun.",
    PlanState.READY: "Its tasks are planned, and about to begin.",
    PlanState.RUNNING: "Its tasks are being worked on.",
    PlanState.BLOCKED: "Nothing of it moves until somebody helps or decides.",
    PlanState.COMPENSATING: "What was done is being undone.",
    PlanState.COMPLETED: "Everything that it needs is done.",
    PlanState.FAILED: "It was given up; what was done is undone.",
    PlanState.CANCELLED: "It was cancelled; what was done is undone.",
    PlanState.SUPERSEDED: "Another plan has taken its place.",
}
COMPLETE = Badge(sign="✓", tone="done", words="all")
PARTIAL = Badge(sign="◔", tone="moving", words="not all")
UNBILLED = Badge(sign="⚠", tone="trouble", words="unbilled")
LATE = Badge(sign="◷", tone="trouble", words="will be late")
STUCK = Badge(sign="⚠", tone="trouble", words="stuck")
GAPS: Mapping[Leak, Badge] = {
    Leak.ACTIVE_WITHOUT_BILLING: Badge(sign="⚠", tone="trouble", words="active, not billed"),
    Leak.BILLED_WITHOUT_SERVICE: Badge(sign="⚠", tone="trouble", words="billed, not active"),
}
SERVICE: Mapping[Is, Badge | None] = {
    Is.NOTHING: None,
    Is.NOT_YET: Badge(sign="○", tone="waiting", words="not yet"),
    Is.THERE: Badge(sign="✓", tone="done", words="active"),
    Is.MISSING: Badge(sign="⚠", tone="trouble", words="not active"),
}
BILLING: Mapping[Is, Badge | None] = {
    Is.NOTHING: None,
    Is.NOT_YET: Badge(sign="○", tone="waiting", words="not yet"),
    Is.THERE: Badge(sign="✓", tone="done", words="billed"),
    Is.MISSING: Badge(sign="⚠", tone="trouble", words="not billed"),
}
SERVICE_ENDS: Mapping[Is, Badge | None] = {
    Is.NOTHING: None,
    Is.NOT_YET: Badge(sign="○", tone="waiting", words="not yet off"),
    Is.THERE: Badge(sign="✓", tone="done", words="switched off"),
    Is.MISSING: Badge(sign="⚠", tone="trouble", words="still active"),
}
"""Of an item that is ordered to end."""
BILLING_ENDS: Mapping[Is, Badge | None] = {
    Is.NOTHING: None,
    Is.NOT_YET: Badge(sign="○", tone="waiting", words="not yet ended"),
    Is.THERE: Badge(sign="✓", tone="done", words="ended"),
    Is.MISSING: Badge(sign="⚠", tone="trouble", words="still billed"),
}

for _entity, _signs in (
    ("order", ORDER_SIGNS),
    ("outcome", OUTCOME_SIGNS),
    ("inbound", DISPOSITION_SIGNS),
    ("delivery", DELIVERY_SIGNS),
    ("notification", NOTIFICATION_SIGNS),
):
    register_signs(entity=_entity, signs=_signs)
