"""Pages that ask why before something is done, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from django import forms
from django.contrib.admin import ModelAdmin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

from fulfillment.authority.actors import Actor, person
from fulfillment.errors import FulfillmentError

T = TypeVar("T")


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


def attempt(
    form: forms.Form,
    work: Callable[[], T],
    *,
    fields: Mapping[type[FulfillmentError], str] = MappingProxyType({}),
) -> T | None:
    """What an operation returns; None, with the reason on the form, when it is refused.

    `fields` names the field beside which an error belongs; others stand above all fields.
    """
    try:
        return work()
    except FulfillmentError as error:
        form.add_error(fields.get(type(error)), str(error))
        return None


def found_or_404(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The row that an address names."""
    row = admin.get_object(request, object_id)
    if row is None:
        raise Http404
    return row


def actor_of(request: HttpRequest) -> Actor:
    """Whoever is at the browser."""
    return person(name=request.user.get_username(), user_id=request.user.pk or 0)
