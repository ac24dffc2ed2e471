"""What somebody was refused at once: that is kept, as every answer about authority is."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

from fulfillment.admin.asking import actor_of
from fulfillment.authority.authorizing import refused_page
from fulfillment.errors import Denied


class KeepRefusals:
    """Buttons are not even shown to whoever may not; who sends their forms all the same is refused
    before any operation is asked for, and that is on record as well."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Of what was to be done; where authority was asked, its own answer is there already."""
        is_refused = isinstance(exception, PermissionDenied) and request.method == "POST"
        is_known = isinstance(exception.__context__, Denied)
        if is_refused and not is_known and request.user.is_authenticated:
            refused_page(actor=actor_of(request), page=request.path)
