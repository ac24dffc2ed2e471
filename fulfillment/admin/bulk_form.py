"""The form of a draft: one operation over many, why, and in which steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.http import HttpRequest
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from fulfillment import operations
from fulfillment.admin.operation_form import PARAMETER, Numbers, OperationForm
from fulfillment.errors import FulfillmentError, ParametersInvalid
from fulfillment.operations import bulk

_USUAL = bulk.Terms()
_AS_SENT = ("action", "select_across", "index")
TERMS = ("canary", "stages", "most_failures", "most_failures_percent", "minutes", "goes_on")


class DraftForm(OperationForm):
    """What is done to all of them, typed as the operation declares it; behind it what was chosen,
    as the list has sent it."""

    canary = forms.IntegerField(
        initial=_USUAL.canary,
        label="Canary",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="So many are done first, spread over all of them.",
    )
    stages = Numbers(
        initial=", ".join(map(str, _USUAL.stages)),
        label="Stages (percent)",
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Then up to so many percent, one stage after the other, then all.",
    )
    most_failures = forms.IntegerField(
        initial=_USUAL.most_failures,
        label="Failures that it takes",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="With more it stops by itself.",
    )
    most_failures_percent = forms.IntegerField(
        initial=_USUAL.most_failures_percent,
        label="The same in percent",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Of those that were tried.",
    )
    minutes = forms.IntegerField(
        initial=60,
        min_value=0,
        max_value=43_200,
        label="Known within (minutes)",
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="What has not come about by then counts as failed.",
    )
    goes_on = forms.BooleanField(
        required=False,
        label="Goes on by itself",
        widget=UnfoldBooleanSwitchWidget(),
        help_text="After a stage that went well, without being asked.",
    )

    def __init__(self, repair: operations.Repair, request: HttpRequest, *args: Any) -> None:
        super().__init__(repair, *args)
        # What agrees to a preview is entered here: there are as many previews as rows.
        for name in self.agreed:
            self.fields[f"{PARAMETER}{name}"].widget = UnfoldAdminTextareaWidget(attrs={"rows": 2})
        for name in _AS_SENT:
            self.fields[name] = forms.CharField(
                required=False, initial=request.POST.get(name, ""), widget=forms.HiddenInput()
            )
        self.fields["_selected_action"] = forms.MultipleChoiceField(
            choices=[(one, one) for one in request.POST.getlist("_selected_action")],
            initial=request.POST.getlist("_selected_action"),
            widget=forms.MultipleHiddenInput(),
        )
        self.fields["operation"] = forms.CharField(
            initial=repair.action.value, widget=forms.HiddenInput()
        )
        self.fields["drafted"] = forms.CharField(initial="yes", widget=forms.HiddenInput())

    def of_operation(self) -> list[forms.BoundField]:
        """What is asked for of the operation itself."""
        return [one for one in self.visible_fields() if one.name not in TERMS]

    def of_terms(self) -> list[forms.BoundField]:
        """In which steps it is done."""
        return [self[name] for name in TERMS]

    def terms(self) -> bulk.Terms:
        data = self.cleaned_data
        return bulk.Terms(
            canary=data["canary"],
            stages=tuple(data["stages"] or ()),
            goes_on=data["goes_on"],
            most_failures=data["most_failures"],
            most_failures_percent=data["most_failures_percent"],
            known_within=timedelta(minutes=data["minutes"]),
        )

    def refuse(self, error: FulfillmentError) -> bool:
        """Terms have names of their own."""
        if not isinstance(error, ParametersInvalid) or not all(
            fault.path in TERMS for fault in error.faults
        ):
            return super().refuse(error)
        for fault in error.faults:
            self.add_error(fault.path, fault.message)
        return True
