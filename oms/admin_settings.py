"""How the admin looks and what its side bar offers. Imported by `oms.settings`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _page(title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    def may_see(request: HttpRequest) -> bool:
        return bool(request.user.has_perm(f"{app}.view_{model}"))

    address = reverse_lazy(f"admin:{app}_{model}_changelist")
    return {"title": title, "icon": icon, "link": address, "permission": may_see}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Order engine",
    "SITE_HEADER": "Order engine",
    "SITE_SYMBOL": "local_shipping",
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("oms/favicon.svg"),
        }
    ],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [lambda request: static("oms/desk.css")],
    "SIDEBAR": {
        "show_search": True,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Orders",
                "items": [_page("Orders", "receipt_long", "oms", "order")],
            },
            {
                "title": "Engine",
                "separator": True,
                "items": [
                    _page("Plans", "account_tree", "fulfillment", "plan"),
                    _page("Tasks", "task_alt", "fulfillment", "task"),
                    _page("Commands", "outgoing_mail", "fulfillment", "command"),
                    _page("Attempts", "repeat", "fulfillment", "attempt"),
                    _page("Audit trail", "history", "fulfillment", "transition"),
                ],
            },
            {
                "title": "Messages",
                "separator": True,
                "items": [
                    _page("Inbox", "move_to_inbox", "fulfillment", "inboundevent"),
                    _page("Outbox", "outbox", "fulfillment", "outboxevent"),
                ],
            },
            {
                "title": "Set-up",
                "separator": True,
                "items": [
                    _page("Target systems", "dns", "fulfillment", "targetsystem"),
                    _page("Workflows", "schema", "fulfillment", "workflowversion"),
                    _page("API clients", "groups", "oms", "apiclient"),
                    _page("API keys", "key", "oms", "apikey"),
                    _page("Users", "person", "auth", "user"),
                ],
            },
        ],
    },
}
