"""Bulk jobs in the admin: drafted from any list, started, followed and stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from fulfillment.actions import Action
from fulfillment.admin.asking import (
    ReasonForm,
    actor_of,
    ask,
    attempt,
    holds_here,
)
from fulfillment.errors import EvidenceMissing, ParametersInvalid, ReasonMissing
from fulfillment.operations import bulk

_USUAL = bulk.Terms()


class DraftForm(ReasonForm):
    """What is to be done to all of them; behind it what was chosen, as the list has sent it."""

    operation = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    parameters = forms.CharField(
        required=False,
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="A JSON object, where the operation has to be told more.",
    )
    evidence = forms.CharField(
        required=False, max_length=4000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    canary = forms.IntegerField(
        initial=_USUAL.canary,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="First so many.",
    )
    stages = forms.RegexField(
        r"^\s*(\d{1,2}(\s*,\s*\d{1,2})*)?\s*$",
        initial=", ".join(map(str, _USUAL.stages)),
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Then up to so many percent, one after the other, then all.",
    )
    goes_on = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="After a stage that went well it goes on without being asked.",
    )
    most_failures = forms.IntegerField(
        initial=_USUAL.most_failures, widget=UnfoldAdminIntegerFieldWidget()
    )
    most_failures_percent = forms.IntegerField(
        initial=_USUAL.most_failures_percent, widget=UnfoldAdminIntegerFieldWidget()
    )
    minutes = forms.IntegerField(
        initial=60,
        min_value=0,
        max_value=43_200,
        label="Known within (minutes)",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="What has not come about by then has not.",
    )

    def __init__(
        self, operations: Sequence[tuple[str, str]], request: HttpRequest, *args: Any
    ) -> None:
        super().__init__(*args)
        self.fields["operation"].choices = operations  # type: ignore[attr-defined]
        for name in ("action", "select_across", "index"):
            self.fields[name] = forms.CharField(
                required=False, initial=request.POST.get(name, ""), widget=forms.HiddenInput()
            )
        self.fields["_selected_action"] = forms.MultipleChoiceField(
            choices=[(one, one) for one in request.POST.getlist("_selected_action")],
            initial=request.POST.getlist("_selected_action"),
            widget=forms.MultipleHiddenInput(),
        )
        self.fields["drafted"] = forms.CharField(initial="yes", widget=forms.HiddenInput())
        self.order_fields(["operation", "reason", "evidence", "parameters"])

    def clean_parameters(self) -> dict[str, Any]:
        text = self.cleaned_data["parameters"].strip()
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise forms.ValidationError("Write a JSON object, such as {}.")
        return found

    def terms(self) -> bulk.Terms:
        data = self.cleaned_data
        return bulk.Terms(
            canary=data["canary"],
            stages=tuple(int(one) for one in data["stages"].split(",") if one.strip()),
            goes_on=data["goes_on"],
            most_failures=data["most_failures"],
            most_failures_percent=data["most_failures_percent"],
            known_within=timedelta(minutes=data["minutes"]),
        )


class Bulkable:
    """A list whose rows, as they are filtered, may become the rows of a bulk job."""

    bulk_of: str
    bulk_name: str = "pk"
    """The column by which operations name one."""
    actions: Any = ("do_to_all",)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)  # type: ignore[misc]
        if not holds_here(request, Action.BULK_START):
            found.pop("do_to_all", None)
        return found

    @admin.action(description="Do something to all of these …")
    def do_to_all(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Freeze what is selected, or all that the filter finds, into a draft."""
        actor = actor_of(request)
        rows = queryset.order_by("pk").values_list(self.bulk_name, flat=True)
        names = [str(name) for name in rows[: bulk.MOST + 1]]
        offers = bulk.offers(actor=actor, about=self.bulk_of, names=names)
        if not offers:
            messages.error(request, "There is nothing that you may do to these.")
            return None
        choices = [(offer.action.value, _words(offer)) for offer in offers]
        sent = request.POST if "drafted" in request.POST else None
        form = DraftForm(choices, request, sent)
        if form.is_valid():
            data = form.cleaned_data
            job = attempt(
                form,
                lambda: bulk.draft(
                    actor=actor,
                    action=data["operation"],
                    selection=bulk.Selection(
                        of=self.bulk_of, names=names, note=request.get_full_path()[:500]
                    ),
                    reason=data["reason"],
                    evidence=data["evidence"],
                    parameters=data["parameters"],
                    terms=form.terms(),
                ),
                fields={
                    ReasonMissing: "reason",
                    EvidenceMissing: "evidence",
                    ParametersInvalid: "parameters",
                },
            )
            if job is not None:
                messages.success(request, f"Bulk job {job.pk} is drafted; its rows are looked at.")
                return redirect("admin:fulfillment_bulkjob_change", job.pk)
        return ask(
            self,  # type: ignore[arg-type]
            request,
            form=form,
            title=f"Do something to these {len(names)}",
            told=f"A draft with these {len(names)} is made: what matches the list later does not "
            "join. Each of them is looked at, and nothing is done before you start it.",
            button="Make the draft",
            back=request.get_full_path(),
        )


def _words(offer: bulk.ForMany) -> str:
    few = "" if offer.for_all else f" (possible for {offer.possible} of {offer.of})"
    return f"{offer.words}{few}"
