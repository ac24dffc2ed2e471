"""What may be done to something, on its page, and one form for every operation there is.

The form shows what it would do before it does it, and does what was shown or nothing: the version
of what was looked at comes along.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.widgets import (
    INPUT_CLASSES,
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from fulfillment import operations
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    held_here,
    holds_here,
    may,
    reach_here,
)
from fulfillment.admin.reading import address_of, pretty
from fulfillment.errors import (
    ActionUnknown,
    DefinitionInvalid,
    Denied,
    EvidenceMissing,
    FulfillmentError,
    NotPossible,
    ParametersInvalid,
    SubjectUnknown,
)
from fulfillment.operations.fields import FieldKind, ParameterField, fields_of
from fulfillment.operations.offering import help_of, title_of

_PARAMETER = "parameter-"
"""Before the names of the parameters, which may be called like those of the form."""
_YES = (("", "—"), ("true", "yes"), ("false", "no"))
_REFUSED = ((Denied, 403), (SubjectUnknown, 404), (NotPossible, 409))


class JsonText(forms.CharField):
    """A list or an object; nothing when it is left empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}), **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from None


class OperationForm(ReasonForm):
    """Its parameters, typed as they are declared, why it is done, and what that rests on."""

    evidence = forms.CharField(
        max_length=4000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="What you have found out, and where it can be seen: a ticket, a screen of the "
        "target system, a name.",
    )

    def __init__(self, repair: operations.Repair, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = {f"{_PARAMETER}{one.name}": one for one in fields_of(repair)}
        for name, field in self.asked.items():
            self.fields[name] = _form_field(field)
        self.fields["evidence"].required = repair.needs_evidence
        self.order_fields([*self.asked, "reason", "evidence"])

    def entered(self) -> dict[str, Any]:
        """Parameters that were given, by their names; what was left empty has its default."""
        found = {}
        for name, field in self.asked.items():
            value = self.cleaned_data.get(name)
            if isinstance(value, datetime):
                value = value.replace(tzinfo=value.tzinfo or UTC).isoformat()
            if value not in (None, ""):
                found[field.name] = value
        return found

    def digest(self) -> str:
        """Of all that was entered: what was previewed and what is done are the same."""
        told = [self.entered(), self.cleaned_data["reason"], self.cleaned_data["evidence"]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def refuse(self, error: FulfillmentError) -> None:
        """Say what is wrong beside the field that it is about, or above all of them."""
        if not isinstance(error, ParametersInvalid | DefinitionInvalid):
            self.add_error("evidence" if isinstance(error, EvidenceMissing) else None, str(error))
            return
        for fault in error.faults:
            name = f"{_PARAMETER}{fault.path.partition('.')[0]}"
            self.add_error(name if name in self.fields else None, fault.message)


class Operable:
    """Pages of what something may be done to: below it stands what, for whoever looks at it."""

    subject_kind: str
    change_form_outer_after_template = "desk/may_be_done.html"

    def subject_name(self, row: Any) -> str:
        """As operations name it."""
        return str(row.pk)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], **options: Any
    ) -> HttpResponse:
        row = context.get("original")
        if row is not None:
            subject = f"{self.subject_kind}:{self.subject_name(row)}"
            context["may_be_done"] = [
                (title_of(repair), help_of(repair), operate_address(repair, subject))
                for repair in operations.possible(
                    subject=subject, held=held_here(request), reach=reach_here(request)
                )
            ]
        answer: HttpResponse = cast(Any, super()).render_change_form(request, context, **options)
        return answer


class Operating:
    """The addresses of the forms, on the page of the log that all of it ends up in."""

    def get_urls(self) -> list[URLPattern]:
        operate = cast(ModelAdmin, self).admin_site.admin_view(self.operate)
        own = path("operate/<str:action>/<path:subject>", operate, name="fulfillment_operate")
        return [own, *cast(Any, super()).get_urls()]

    def operate(self, request: HttpRequest, action: str, subject: str) -> HttpResponse:
        """The form; what it would do; and, once that was seen, doing it."""
        try:
            repair = operations.repair_of(action)
        except ActionUnknown:
            raise Http404 from None
        if "\0" in subject:
            raise Http404
        if not holds_here(request, repair.action):
            _deny(request, repair, subject)
        form = OperationForm(repair, request.POST if request.method == "POST" else None)
        page: dict[str, Any] = {"status": 200}
        if form.is_valid():
            found: operations.Prepared | None = None
            try:
                found = operations.prepared(
                    actor=actor_of(request), request=_wanted(repair, subject, form, request)
                )
                if request.POST.get("seen") == form.digest():
                    carry_out(request, found)
                    return redirect(_back(found.found.subject))
                page |= _previewed(found, form)
            except FulfillmentError as error:
                form.refuse(error)
                page |= _refused(found, error)
        return self._page(request, repair, subject, form, page)

    def _page(
        self,
        request: HttpRequest,
        repair: operations.Repair,
        subject: str,
        form: OperationForm,
        page: dict[str, Any],
    ) -> HttpResponse:
        admin = cast(ModelAdmin, self)
        context = {
            **admin.admin_site.each_context(request),
            "opts": admin.model._meta,
            "title": title_of(repair),
            "subject": subject,
            "help": help_of(repair),
            "form": form,
            "back": _back(subject),
            "media": admin.media + form.media,
            **page,
        }
        return TemplateResponse(request, "desk/operate.html", context, status=page["status"])


def operate_address(repair: operations.Repair, subject: str) -> str:
    """Where the form of an operation on this subject is."""
    return reverse("admin:fulfillment_operate", args=[repair.action.value, subject])


def _deny(request: HttpRequest, repair: operations.Repair, subject: str) -> NoReturn:
    """They may not do it anywhere; where they have tried to, that stays on record."""
    if request.method == "POST":
        with suppress(SubjectUnknown, NotPossible):
            for context in repair.found(subject=subject).contexts:
                may(request, repair.action, context)
    raise PermissionDenied(f"You may not do this anywhere: {repair.action}.")


def _wanted(
    repair: operations.Repair, subject: str, form: OperationForm, request: HttpRequest
) -> operations.Request:
    is_seen = request.POST.get("seen") == form.digest()
    return operations.Request(
        action=repair.action,
        subject=subject,
        reason=form.cleaned_data["reason"],
        evidence=form.cleaned_data["evidence"],
        parameters=form.entered(),
        expected_version=request.POST.get("version", "") if is_seen else "",
    )


def _previewed(found: operations.Prepared, form: OperationForm) -> dict[str, Any]:
    preview = found.preview()
    return {
        "preview": preview,
        "before": pretty(dict(preview.done.before) or None),
        "after": pretty(dict(preview.done.after) or None),
        "commands": [
            (command["target"], command["action"], pretty(command["payload"]))
            for command in preview.commands
        ],
        "seen": form.digest(),
    }


def carry_out(request: HttpRequest, found: operations.Prepared) -> None:
    """Do it, or ask for the approval that it needs; and say so."""
    if found.needs is not None:
        approval = operations.ask_for_approval(prepared=found)
        told = (
            f"Approval {approval.pk} is asked for: somebody with {approval.needs} has to decide "
            f"it until {approval.expires_at:%Y-%m-%d %H:%M} UTC. Nothing is done before."
        )
        messages.warning(request, told)
        return
    messages.success(request, found.perform().told)


def _refused(found: operations.Prepared | None, error: FulfillmentError) -> dict[str, Any]:
    """The status, and who was there before, where it is a conflict."""
    status = next((status for kind, status in _REFUSED if isinstance(error, kind)), 400)
    changed = found.changed() if found is not None and isinstance(error, NotPossible) else ""
    return {"status": status, "changed": changed}


def _back(subject: str) -> str:
    """The page of what it is about; the log of operations for what has none."""
    return address_of(subject) or reverse("admin:fulfillment_operation_changelist")


def _form_field(field: ParameterField) -> forms.Field:
    common: dict[str, Any] = {
        "label": field.title,
        "required": field.is_required,
        "help_text": field.help,
    }
    match field.kind:
        case FieldKind.INTEGER:
            return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget(), **common)
        case FieldKind.NUMBER:
            widget = UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})
            return forms.FloatField(widget=widget, **common)
        case FieldKind.YES_NO:
            return forms.TypedChoiceField(
                choices=_YES,
                coerce=lambda chosen: chosen == "true",
                empty_value=None,
                widget=UnfoldAdminSelectWidget(),
                **common,
            )
        case FieldKind.CHOICE:
            choices = list(_choices(field))
            return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget(), **common)
        case FieldKind.TIME:
            widget = forms.DateTimeInput(
                format="%Y-%m-%dT%H:%M",
                attrs={"type": "datetime-local", "class": " ".join(INPUT_CLASSES)},
            )
            return forms.DateTimeField(widget=widget, **common)
        case FieldKind.JSON:
            return JsonText(**common)
    return forms.CharField(max_length=10_000, widget=UnfoldAdminTextInputWidget(), **common)


def _choices(field: ParameterField) -> Iterator[tuple[str, str]]:
    if not field.is_required:
        usual = field.default
        yield "", f"as usual: {str(usual).lower()}" if usual else "—"
    for choice in field.choices:
        yield choice, choice.lower().replace("_", " ")
