"""Pages that ask why before something is done, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

from django import forms
from django.contrib.admin import ModelAdmin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.http import url_has_allowed_host_and_scheme
from unfold.widgets import UnfoldAdminTextareaWidget

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor, person
from fulfillment.authority.authorizing import Reach, authorize
from fulfillment.authority.context import Context
from fulfillment.errors import Denied, FulfillmentError

T = TypeVar("T")


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Whoever looks at it next reads this; it stays in the log of operations.",
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        enter_goes_on(self.fields["reason"])
        focus_first(self)


def enter_goes_on(field: forms.Field) -> None:
    """Enter in it presses the form's button; a new line takes the shift key (`asking.js`)."""
    field.widget.attrs["data-enter-goes-on"] = ""


def focus_first(form: forms.Form) -> None:
    """The first field that is still to be filled in has the keyboard, when the page is opened."""
    focus_none(form)
    if form.is_bound:
        return
    for name, field in form.fields.items():
        if not form.initial.get(name) and not field.widget.is_hidden:
            field.widget.attrs["autofocus"] = True
            return


class Guarded:
    """A page whose form an operation saves: whoever may not do that can only read it.

    The admin saves in a transaction of its own, so authority is asked for before that begins, and
    a denial stays in the log.
    """

    guarded_by: Action

    def context_of(self, obj: Any) -> Context:
        """What the form is about; None is a new row."""
        raise NotImplementedError

    def has_add_permission(self, request: HttpRequest) -> bool:
        return holds_here(request, self.guarded_by)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return holds_here(request, self.guarded_by)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST":
            admin = cast(ModelAdmin, self)
            row = admin.get_object(request, object_id) if object_id else None
            may(request, self.guarded_by, self.context_of(row))
        shown: HttpResponse = super().changeform_view(  # type: ignore[misc]
            request, object_id, form_url, extra_context
        )
        return shown


def holds_here(request: HttpRequest, action: Action) -> bool:
    """Whether whoever is at the browser may do this anywhere; looked up once for each page."""
    return action in held_here(request)


def held_here(request: HttpRequest) -> frozenset[Action]:
    """All that whoever is at the browser may do somewhere."""
    return reach_here(request).held


def reach_here(request: HttpRequest) -> Reach:
    """How far whoever is at the browser reaches; read once for each page."""
    found: Reach | None = getattr(request, "reach", None)
    if found is None:
        found = Reach(actor=actor_of(request), user=cast(User, request.user))
        request.reach = found  # type: ignore[attr-defined]
    return found


def may(request: HttpRequest, action: Action, context: Context) -> None:
    """Ask for authority; raises PermissionDenied, which is answered with 403."""
    try:
        authorize(actor=actor_of(request), action=action, context=context)
    except Denied as error:
        raise PermissionDenied(str(error)) from None


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
        "title": title,
        "content_title": title,
        "form": form,
        "told": told,
        "button": button,
        "back": back,
        "media": admin.media + form.media,
    }
    status = 403 if getattr(form, "is_denied", False) else 200
    return TemplateResponse(request, "desk/operate/ask.html", context, status=status)


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
    except Denied as error:
        form.is_denied = True  # type: ignore[attr-defined]
        form.add_error(None, str(error))
        return None
    except FulfillmentError as error:
        form.add_error(fields.get(type(error)), str(error))
        return None


def found_or_404(admin: ModelAdmin, request: HttpRequest, object_id: str) -> Any:
    """The row that an address names."""
    row = admin.get_object(request, object_id)
    if row is None:
        raise Http404
    return row


def focus_none(form: forms.Form) -> None:
    """Of a form below something that has to be read first."""
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)


def came_from(request: HttpRequest) -> str:
    """The page of ours from which something was pressed, as it was filtered; empty: not known."""
    before = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(
        before, {request.get_host()}, require_https=request.is_secure()
    )
    return before if is_ours else ""


def actor_of(request: HttpRequest) -> Actor:
    """Whoever is at the browser."""
    return person(name=request.user.get_username(), user_id=request.user.pk or 0)
