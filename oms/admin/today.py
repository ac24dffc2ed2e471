"""The page that says at a glance how the day is going; every number leads to its list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fulfillment.admin.pages import Page


class Today(Page):
    name = "today"
    title = "Today"
    template_name = "desk/pages/today.html"

    def content(self) -> Mapping[str, Any]:
        return {}
