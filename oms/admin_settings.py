"""How the admin looks and what its side bar offers. Imported by `oms.settings`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.text import format_lazy

_ALIKE: dict[tuple[str, str], list[dict[str, str]]] = {}
"""What each line of the side bar about a model asks for, by the model."""


def _page(
    title: str, icon: str, app: str, model: str, *, count: str = "", **lookups: str
) -> dict[str, Any]:
    """A line of the side bar: the list of a model's rows, or of those with these values.

    `count` names what `oms.admin.counts` shows beside it.
    """
    address = reverse_lazy(f"admin:{app}_{model}_changelist")

    def may_see(request: HttpRequest) -> bool:
        return bool(request.user.has_perm(f"{app}.view_{model}"))

    alike = _ALIKE.setdefault((app, model), [])
    alike.append(lookups)

    def is_here(request: HttpRequest) -> bool:
        if not request.path.startswith(str(address)):
            return False
        asked = request.GET.dict()
        fitting = [one for one in alike if one.items() <= asked.items()]
        # One line alone: that which says most of what is asked for. A row that none of them is
        # about belongs to the first.
        return lookups == max(fitting or alike[:1], key=len)

    return {
        "title": title,
        "icon": icon,
        "link": format_lazy("{}?{}", address, urlencode(lookups)) if lookups else address,
        "permission": may_see,
        "active": is_here,
        **({"badge": f"oms.admin.counts.{count}"} if count else {}),
    }


def _desk(title: str, icon: str, name: str, *permissions: str) -> dict[str, Any]:
    """A line of the side bar: a page of the desk, for whoever holds one of these permissions."""
    address = reverse_lazy(f"desk_{name}")

    def may_see(request: HttpRequest) -> bool:
        return not permissions or any(request.user.has_perm(one) for one in permissions)

    return {
        "title": title,
        "icon": icon,
        "link": address,
        "permission": may_see,
        # A page may have others below it.
        "active": lambda request: f"{request.path}/".startswith(f"{address}/"),
    }


def _elsewhere(
    title: str, icon: str, link: Any, *, is_there: Callable[[HttpRequest], bool]
) -> dict[str, Any]:
    """A line of the side bar that leaves the admin, in a new tab."""
    return {
        "title": title,
        "icon": icon,
        "link": link,
        "new_tab": True,
        "permission": is_there,
        "active": lambda request: False,
    }


def _flower(request: HttpRequest) -> str:
    """Where Flower is; empty where there is none. Without a setting it is beside this page."""
    if settings.OMS_FLOWER_URL:
        return str(settings.OMS_FLOWER_URL)
    if settings.OMS_FLOWER_PORT is None:
        return ""
    host = urlsplit(f"//{request.get_host()}").hostname or ""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{settings.OMS_FLOWER_PORT}"


def _file(name: str) -> Callable[[HttpRequest], str]:
    return lambda request: static(name)


_STYLES = ("desk", "frame", "today", "order", "graph", "work", "asking", "boards", "reports")
_SCRIPTS = ("frame", "live", "lists", "keys", "graph", "copy", "asking")
# The blue of "moving" in the pictures, lighter and darker.
_BLUE = {
    "50": "oklch(97.5% .013 243)",
    "100": "oklch(94.5% .028 243)",
    "200": "oklch(89.5% .055 243)",
    "300": "oklch(82% .095 243)",
    "400": "oklch(71.5% .13 243)",
    "500": "oklch(66% .14 244)",
    "600": "oklch(53% .137 246)",
    "700": "oklch(46% .12 248)",
    "800": "oklch(39.5% .098 250)",
    "900": "oklch(34% .08 252)",
    "950": "oklch(25% .06 254)",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Order engine",
    "SITE_HEADER": "Order engine",
    "SITE_SUBHEADER": "All times are UTC",
    "SITE_SYMBOL": "local_shipping",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("oms/favicon.svg"),
        }
    ],
    "SHOW_VIEW_ON_SITE": False,
    # There is no other site to return to.
    "SITE_URL": None,
    "LOGIN": {"form": "oms.signing_in.SignInForm"},
    # Django's own log of changes: what was done by hand is on record with the operations.
    "SHOW_HISTORY": False,
    "COLORS": {"primary": _BLUE},
    "STYLES": [_file(f"oms/{name}.css") for name in _STYLES],
    "SCRIPTS": [_file(f"oms/{name}.js") for name in _SCRIPTS],
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Desk",
                "items": [
                    _desk("Today", "today", "today"),
                    _page(
                        "To decide",
                        "gavel",
                        "fulfillment",
                        "manualtask",
                        count="to_decide",
                        decided_at__isempty="1",
                    ),
                    _page(
                        "Fallout",
                        "assignment_late",
                        "fulfillment",
                        "falloutcase",
                        count="fallout",
                        resolved_at__isempty="1",
                    ),
                    _page(
                        "Incidents",
                        "hub",
                        "fulfillment",
                        "incident",
                        count="incidents",
                        resolved_at__isempty="1",
                    ),
                    _page(
                        "To approve",
                        "how_to_reg",
                        "fulfillment",
                        "approval",
                        count="to_approve",
                        state__exact="REQUESTED",
                    ),
                    _page(
                        "Unmatched events",
                        "unknown_document",
                        "fulfillment",
                        "inboundevent",
                        count="unmatched",
                        disposition__exact="UNMATCHED",
                    ),
                    _page("Stuck orders", "warning", "oms", "order", count="stuck", stuck="any"),
                ],
            },
            {
                "title": "Orders",
                "separator": True,
                "items": [
                    _page("Orders", "receipt_long", "oms", "order"),
                    _page("Amendments", "edit_note", "oms", "amendmentrequest"),
                    _page("Cancellations", "undo", "oms", "cancellationrequest"),
                    _page("Holds", "front_hand", "fulfillment", "hold"),
                    _page("Bulk jobs", "checklist", "fulfillment", "bulkjob"),
                ],
            },
            {
                "title": "Systems",
                "separator": True,
                "items": [
                    _desk("Targets", "dns", "targets", "fulfillment.view_targetsystem"),
                    _desk("Locks", "lock", "locks", "fulfillment.view_resourcelock"),
                    _desk("Workflows", "schema", "workflows", "fulfillment.view_workflowversion"),
                    _desk("Reports", "monitoring", "reports", "oms.view_order"),
                ],
            },
            {
                "title": "Customers",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Assets", "inventory_2", "oms", "asset"),
                    _page("Expected assets", "pending_actions", "oms", "pendingasset"),
                    _page("Told to customers", "forward_to_inbox", "oms", "notification"),
                    _page("Not told", "unsubscribe", "oms", "notification", state__exact="FAILED"),
                ],
            },
            {
                "title": "Engine",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Plans", "account_tree", "fulfillment", "plan"),
                    _page("Tasks", "task_alt", "fulfillment", "task"),
                    _page("Commands", "outgoing_mail", "fulfillment", "command"),
                    _page("Attempts", "repeat", "fulfillment", "attempt"),
                    _page("Plan graphs", "graph_1", "fulfillment", "plangraph"),
                    _page("Audit trail", "history", "fulfillment", "transition"),
                    _page("Operations", "engineering", "fulfillment", "operation"),
                ],
            },
            {
                "title": "Messages",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Inbox", "move_to_inbox", "fulfillment", "inboundevent"),
                    _page("Signals", "sensors", "fulfillment", "signal"),
                    _page("Outbox", "outbox", "fulfillment", "outboxevent"),
                    _page("Deliveries", "send", "fulfillment", "delivery"),
                    _page(
                        "Dead letters",
                        "mark_email_unread",
                        "fulfillment",
                        "delivery",
                        state__exact="DEAD",
                    ),
                ],
            },
            {
                "title": "Set-up",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Target systems", "settings_ethernet", "fulfillment", "targetsystem"),
                    _page("Resources", "inventory", "fulfillment", "resource"),
                    _page("All locks", "lock_clock", "fulfillment", "resourcelock"),
                    _page("Calendars", "calendar_month", "fulfillment", "businesscalendar"),
                    _page("Routing of cases", "alt_route", "fulfillment", "routingrule"),
                    _page("Subscriptions", "podcasts", "fulfillment", "subscription"),
                    _page("API clients", "groups", "oms", "apiclient"),
                    _page("API keys", "key", "oms", "apikey"),
                ],
            },
            {
                "title": "Authority",
                "separator": True,
                "collapsible": True,
                "items": [
                    _page("Approvals", "fact_check", "fulfillment", "approval"),
                    _page("Decisions", "policy", "fulfillment", "authoritydecision"),
                    _page("Grants", "key_vertical", "fulfillment", "grant"),
                    _page("Roles", "badge", "auth", "group"),
                    _page("Users", "person", "auth", "user"),
                ],
            },
            {
                "title": "Elsewhere",
                "separator": True,
                "items": [
                    _elsewhere(
                        "Queues and workers (Flower)",
                        "local_florist",
                        _flower,
                        is_there=lambda request: (
                            bool(_flower(request))
                            and bool(request.user.has_perm("fulfillment.view_targetsystem"))
                        ),
                    ),
                    _elsewhere(
                        "API docs",
                        "api",
                        reverse_lazy("api_docs"),
                        is_there=lambda request: True,
                    ),
                ],
            },
        ],
    },
}
