"""Pages that ask why before something is done, and say what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin import ModelAdmin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

PATIENCE = timedelta(seconds=5)
"""How long a page waits at the most for calls that are on the wire."""


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Whoever looks at it next reads this; it stays in the log of operations.",
    )


def ask(
    admin: ModelAdmin,
    request: HttpRequest,
    *,
    form: forms.Form,
    title: str,
    told: str,
    button: str,
    back: str,
) -> HttpResponse:
    """The page with the form: what will happen, why it is to, and the way back."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.model._meta,
        "title": title,
        "form": form,
        "told": told,
        "button": button,
        "back": back,
        "media": admin.media + form.media,
    }
    return TemplateResponse(request, "desk/ask.html", context)


def found_or_404(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The row that an address names."""
    row = admin.get_object(request, object_id)
    if row is None:
        raise Http404
    return row


def actor_of(request: HttpRequest) -> str:
    """As whom the logs know whoever is at the browser."""
    return request.user.get_username()


def on_the_wire(calls: int) -> str:
    """What placing a hold or a pause has found, in words."""
    if not calls:
        return "Nothing is on the wire any more."
    were = "1 call was" if calls == 1 else f"{calls} calls were"
    return (
        f"{were} still on the wire after {PATIENCE.seconds} seconds; what comes of it is still "
        "taken in."
    )
