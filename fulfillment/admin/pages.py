"""Pages of the desk that are no model's list or form: a title, who may see it, what it shows.

Each shows itself anew while somebody looks at it: the browser asks for the page again and takes
over what has changed (`templates/html/desk/frame/live.html`, `oms/static/oms/live.js`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.views.generic import TemplateView


class Page(TemplateView):
    """One page at `/admin/desk/<name>`; its template extends `layout` and fills `desk`."""

    name: ClassVar[str]
    title: ClassVar[str]
    told: ClassVar[str] = ""
    """What it is for, in one sentence below the title."""
    permissions: ClassVar[tuple[str, ...]] = ()
    """One of these is enough; none: everybody who may enter the admin."""
    live_seconds: ClassVar[int] = 15
    """So often it is looked at again; 0: never."""
    http_method_names = ["get", "head", "options"]

    def dispatch(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponseBase:
        if not may_see(request, *self.permissions):
            raise PermissionDenied(f"You may not see this page: {self.title}.")
        answer: HttpResponseBase = super().dispatch(request, *args, **options)
        return answer

    def content(self) -> Mapping[str, Any]:
        """What the template shows; a fixed number of queries."""
        raise NotImplementedError

    def get_context_data(self, **options: Any) -> dict[str, Any]:
        is_look = is_live_look(self.request)
        around = {} if is_look else admin.site.each_context(self.request)
        return {
            **super().get_context_data(**options),
            **around,
            "layout": "desk/frame/bare.html" if is_look else "desk/frame/page.html",
            "title": self.title,
            "told": self.told,
            "live_seconds": self.live_seconds,
            **self.content(),
        }


def may_see(request: HttpRequest, *permissions: str) -> bool:
    """Whether they hold one of these."""
    return not permissions or any(request.user.has_perm(one) for one in permissions)


def is_live_look(request: HttpRequest) -> bool:
    """Whether an open page asks for itself again."""
    return request.headers.get("HX-Request") == "true"


def looks_at(request: HttpRequest, region: str) -> bool:
    """Whether an open page asks for this region of itself alone."""
    return is_live_look(request) and request.headers.get("HX-Target") == region


def page_paths(pages: Iterable[type[Page]]) -> list[URLPattern]:
    """Their addresses, below that of the admin."""
    return [
        path(
            f"admin/desk/{page.name}",
            admin.site.admin_view(page.as_view()),
            name=f"desk_{page.name}",
        )
        for page in pages
    ]


def page_address(page: type[Page]) -> str:
    return reverse(f"desk_{page.name}")


class LeaveMessages:
    """A page that only looks at itself again leaves what is to be told to whoever acts next."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_live_look(request) and request.method == "GET" and hasattr(request, "_messages"):
            del request._messages
        return self._get_response(request)
