"""What may be done to something, on its page, and one form for every operation there is.

The form shows what it would do before it does it, and does what was shown or nothing: the version
of what was looked at comes along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn, cast
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, register_converter, reverse
from django.urls.converters import StringConverter

from fulfillment import operations
from fulfillment.admin.asking import actor_of, focus_none, held_here, holds_here, may, reach_here
from fulfillment.admin.elsewhere import elsewhere
from fulfillment.admin.operation_form import PARAMETER, OperationForm
from fulfillment.admin.previewing import ShownPreview, about, shown, shown_or_none
from fulfillment.admin.reading import address_of
from fulfillment.errors import (
    ActionUnknown,
    Denied,
    FulfillmentError,
    NotPossible,
    SubjectChanged,
    SubjectUnknown,
)
from fulfillment.operations.offering import help_of, refusals, title_of

_REFUSED: tuple[tuple[type[FulfillmentError], int, str], ...] = (
    (Denied, 403, "You may not do this here"),
    (SubjectUnknown, 404, "It is not there"),
    (SubjectChanged, 409, "Somebody was there before you"),
    (NotPossible, 409, "This can't be done as it stands now"),
)
"""By kind of refusal, its status and what stands above it."""


_DOTS = re.compile(r"(?<![^/])\.{1,2}~*(?![^/])")
_MARKED_DOTS = re.compile(r"(?<![^/])(\.{1,2}~*)~(?![^/])")


class SubjectConverter(StringConverter):
    """Any text: locks are called by ids that clients have chosen, of several lines, too."""

    regex = r"[\s\S]+"

    def to_url(self, value: Any) -> str:
        """Browsers take `/../` as the way up: what is called so is marked with a tilde more."""
        return _DOTS.sub(r"\g<0>~", str(value))

    def to_python(self, value: str) -> str:
        return _MARKED_DOTS.sub(r"\1", value)


register_converter(SubjectConverter, "subject")


class Operable:
    """Pages of what something may be done to: below it stands what, for whoever looks at it."""

    subject_kind: str
    change_form_outer_after_template = "desk/operate/may_be_done.html"

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
        own = path("operate/<str:action>/<subject:subject>", operate, name="fulfillment_operate")
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
        page: dict[str, Any]
        if request.method != "POST":
            check_reach(request, repair, subject)
            form = OperationForm(
                repair, suggested=_suggested(repair, subject), given=request.GET.dict()
            )
            page = {"status": 200, **_shown_first(request, repair, subject)}
            if "first" in page:
                focus_none(form)
            return self._page(request, repair, subject, form, page)
        form = OperationForm(repair, request.POST)
        page = {"status": 200}
        if form.is_valid():
            found: operations.Prepared | None = None
            try:
                found = operations.prepared(
                    actor=actor_of(request), request=_wanted(repair, subject, form, request)
                )
                if _is_seen(request, form):
                    done = carry_out(request, found)
                    return redirect(_onward(done) or _back(found.found.subject))
                page |= {
                    "preview": shown(found.preview(), repair=repair),
                    "seen": form.digest(),
                    "elsewhere": elsewhere(found.request, user_name=request.user.get_username()),
                }
            except FulfillmentError as error:
                page |= _refused(repair, form, found, error)
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
            "title": title_of(repair),
            "content_title": title_of(repair),
            "about": about(subject),
            "help": help_of(repair),
            "form": form,
            "back": _back(subject),
            "media": admin.media + form.media,
            **_agreeing(page.get("preview"), form),
            **page,
        }
        return TemplateResponse(
            request, "desk/operate/operate.html", context, status=page["status"]
        )


def operate_address(
    repair: operations.Repair, subject: str, *, evidence: str = "", **parameters: str
) -> str:
    """Where the form of an operation on this subject is, filled in with these parameters."""
    address = reverse("admin:fulfillment_operate", args=[repair.action.value, subject])
    given = {f"{PARAMETER}{name}": value for name, value in parameters.items()}
    filled = urlencode(given | ({"evidence": evidence} if evidence else {}))
    return f"{address}?{filled}" if filled else address


def _deny(request: HttpRequest, repair: operations.Repair, subject: str) -> NoReturn:
    """They may not do it anywhere; where they have tried to, that stays on record."""
    if request.method == "POST":
        with suppress(SubjectUnknown, NotPossible):
            for context in repair.found(subject=subject).contexts:
                may(request, repair.action, context)
    raise PermissionDenied(f"You may not do this anywhere: {repair.action}.")


def check_reach(request: HttpRequest, repair: operations.Repair, subject: str) -> None:
    """The form of what they may not do here, as far as its address tells where that is, is not even
    shown. Raises PermissionDenied."""
    with suppress(SubjectUnknown, NotPossible):
        found = repair.found(subject=subject)
        for why in refusals(reach=reach_here(request), repair=repair, found=found):
            raise PermissionDenied(f"You may not do this here ({repair.action}): {why}")


def _suggested(repair: operations.Repair, subject: str) -> Mapping[str, Any]:
    """With what its form begins; nothing for what is not there."""
    with suppress(SubjectUnknown, NotPossible):
        return repair.suggested(repair.found(subject=subject))
    return {}


def _agreeing(preview: ShownPreview | None, form: OperationForm) -> dict[str, Any]:
    """The box beside the preview that says that what it says is agreed to.

    Its fields are in the form for what they carry alone: what was agreed to before is asked anew.
    """
    agreed_fields = [f"{PARAMETER}{name}" for name in sorted(form.agreed)]
    if preview is None or preview.agreement is None:
        return {"agreed_fields": agreed_fields}
    ((name, value),) = preview.agreement.parameters.items()
    return {
        "agreed_fields": agreed_fields,
        "agree_name": f"{PARAMETER}{name}",
        "agree_value": json.dumps(value),
    }


def _shown_first(request: HttpRequest, repair: operations.Repair, subject: str) -> dict[str, Any]:
    """What it comes to as it stands now, before anything is entered; or why it is not possible."""
    if not repair.is_shown_first:
        return {}
    try:
        found = operations.looked_at(
            actor=actor_of(request),
            request=operations.Request(action=repair.action, subject=subject, reason=""),
        )
    except FulfillmentError as error:
        return {"heading": _told_of(error)[1], "refusal": str(error)}
    first, refusal = shown_or_none(found, repair=repair)
    if first is None:
        return {"heading": _told_of(NotPossible())[1], "refusal": refusal}
    return {"first": first}


def _told_of(error: FulfillmentError) -> tuple[int, str]:
    """The status, and what stands above it."""
    return next(
        ((status, words) for kind, status, words in _REFUSED if isinstance(error, kind)),
        (400, "Nothing was done"),
    )


def _is_seen(request: HttpRequest, form: OperationForm) -> bool:
    """Whether what was entered is what was previewed."""
    return request.POST.get("seen") == form.digest()


def _wanted(
    repair: operations.Repair, subject: str, form: OperationForm, request: HttpRequest
) -> operations.Request:
    return operations.Request(
        action=repair.action,
        subject=subject,
        reason=form.cleaned_data["reason"],
        evidence=form.cleaned_data["evidence"],
        parameters=form.entered(),
        expected_version=request.POST.get("version", "") if _is_seen(request, form) else "",
    )


def carry_out(request: HttpRequest, found: operations.Prepared) -> operations.Done | None:
    """Do it, or ask for the approval that it needs; and say so. What was done, if it was."""
    if found.needs is not None:
        approval = operations.ask_for_approval(prepared=found)
        told = (
            f"Approval {approval.pk} is asked for: somebody with {approval.needs} has to decide "
            f"it until {approval.expires_at:%Y-%m-%d %H:%M} UTC. Nothing is done before."
        )
        messages.warning(request, told)
        return None
    done = found.perform()
    messages.success(request, done.told)
    return done


def _refused(
    repair: operations.Repair,
    form: OperationForm,
    found: operations.Prepared | None,
    error: FulfillmentError,
) -> dict[str, Any]:
    """What is wrong beside its field; or above all of them, and who was there before."""
    if form.refuse(error):
        return {"status": 400}
    status, heading = _told_of(error)
    changed = found.changed() if found is not None and isinstance(error, NotPossible) else ""
    page: dict[str, Any] = {
        "status": status,
        "heading": heading,
        "refusal": str(error),
        "changed": "" if changed in str(error) else changed,
    }
    # Where others have changed it, whoever asks has to look at it; otherwise they have only not
    # said yet that they agree to what they see.
    if (
        found is not None
        and found.request.expected_version
        and not isinstance(error, SubjectChanged)
    ):
        anew = replace(found, request=replace(found.request, expected_version=""))
        preview, _ = shown_or_none(anew, repair=repair)
        if preview is not None:
            page |= {"preview": preview, "seen": form.digest()}
    return page


def _onward(done: operations.Done | None) -> str:
    """Where it goes on: the job that an operation has drafted. Empty: where one came from."""
    return address_of(f"bulk:{done.result['job']}") if done and "job" in done.result else ""


def _back(subject: str) -> str:
    """The page of what it is about; the log of operations for what has none."""
    return address_of(subject) or reverse("admin:fulfillment_operation_changelist")
