"""Business calendars: when people work, which operators edit live."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import RegexValidator
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html_join
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import Guarded, actor_of
from fulfillment.admin.reading import DeskAdmin, preformatted
from fulfillment.admin.target_form import ObjectField
from fulfillment.authority.context import Context
from fulfillment.engine.store import calendars
from fulfillment.errors import CalendarInvalid
from fulfillment.models import BusinessCalendar

_HOURS = '[{"days": ["mon", "tue"], "from": "08:00", "to": "17:00"}]'
_EXAMPLE = (
    f'{{"timezone": "Europe/Vienna", "hours": {_HOURS}, '
    '"holidays": {"country": "AT", "extra": ["2027-12-24"]}}'
)


class CalendarForm(forms.ModelForm):
    """Refuses a calendar that windows could not use, and says why."""

    spec = ObjectField(
        required=True,
        example=_EXAMPLE,
        help_text=f"Such as {_EXAMPLE}. Holidays also take subdivision and removed "
        "(docs/calendars.md). Works within a second of saving.",
    )
    why = forms.CharField(
        label="Why you change it",
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="For the log of operations, which keeps what was changed as well.",
    )

    class Meta:
        model = BusinessCalendar
        fields = ("name", "title", "spec")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "name" in self.fields:
            self.fields["name"].validators.append(
                RegexValidator(
                    r"\A[a-z][a-z0-9_-]*\Z", "Small letters, digits, - and _, a letter first."
                )
            )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            row = BusinessCalendar(
                name=cleaned.get("name", self.instance.pk),
                title=cleaned["title"],
                spec=cleaned["spec"],
            )
            try:
                calendars.checked(row)
            except CalendarInvalid as error:
                self.add_error("spec", forms.ValidationError(str(error), code=error.code))
        return cleaned


@admin.register(BusinessCalendar)
class BusinessCalendarAdmin(Guarded, DeskAdmin):
    guarded_by = Action.CALENDAR_EDIT
    form = CalendarForm
    list_display = ("name", "title", "zone", "working_hours", "updated_at")
    search_fields = ("name", "title")
    list_fullwidth = True
    sortable_by = ("name",)
    fieldsets = (
        (None, {"fields": (("name", "title"), "spec", "why")}),
        ("What that means", {"fields": ("working_hours", "holidays")}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Windows name their calendar; a calendar by another name is another calendar.
        shown = ("working_hours", "holidays")
        return ("name", *shown) if obj is not None else shown

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def context_of(self, obj: Any) -> Context:
        return Context(subject=f"calendar:{obj.pk if obj else 'new'}")

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        operations.edit_calendar(
            row=obj, actor=actor_of(request), reason=form.cleaned_data.get("why", "")
        )

    @display(description="time zone")
    def zone(self, row: Any) -> str:
        return str(row.spec.get("timezone", "—"))

    @display(description="working hours")
    def working_hours(self, row: Any) -> str:
        if not row.pk:
            return "—"
        try:
            hours = calendars.calendar_of(row).hours
        except CalendarInvalid as error:
            return str(error)
        return format_html_join(", ", "{}", ((str(one),) for one in hours))

    @display(description="holidays")
    def holidays(self, row: Any) -> str:
        """Of this year and the next: what operators look after."""
        if not row.pk:
            return "—"
        try:
            rule = calendars.calendar_of(row).holidays
        except CalendarInvalid:
            return "—"
        year = timezone.now().year
        days = {**rule.in_year(year), **rule.in_year(year + 1)}
        return preformatted("\n".join(f"{day:%Y-%m-%d %a}  {name}" for day, name in days.items()))
