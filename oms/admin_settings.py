"""How the admin looks. Imported by `oms.settings`."""

from __future__ import annotations

from typing import Any

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Order engine",
    "SITE_HEADER": "Order engine",
}
