"""Lists whose rows become the rows of a bulk job: what is done to them is chosen, then drafted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from fulfillment import operations
from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, holds_here
from fulfillment.admin.bulk_form import DraftForm
from fulfillment.errors import Denied, FulfillmentError
from fulfillment.models import BulkJob
from fulfillment.operations import bulk
from fulfillment.operations.offering import help_of, title_of


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """An operation that may be done to them."""

    name: str
    words: str
    told: str
    few: str
    """For how many of them it can be possible, where it is not for all."""


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
        """Choose what; then freeze what is selected, or all that the filter finds, into a draft."""
        rows = queryset.order_by("pk").values_list(self.bulk_name, flat=True)
        names = [str(name) for name in rows[: bulk.MOST + 1]]
        offers = bulk.offers(actor=actor_of(request), about=self.bulk_of, names=names)
        if not offers:
            messages.error(request, "There is nothing that you may do to these.")
            return None
        asked = request.POST.get("operation", "")
        chosen = next((one for one in offers if one.action.value == asked), None)
        if chosen is None:
            return self._page(request, len(names), choices=[_choice(one) for one in offers])
        repair = operations.repair_of(chosen.action)
        form = DraftForm(repair, request, request.POST if "drafted" in request.POST else None)
        if form.is_bound and form.is_valid():
            try:
                job = self._draft(request, names, form, chosen.action)
            except FulfillmentError as error:
                if not form.refuse(error):
                    form.add_error(None, str(error))
                status = 403 if isinstance(error, Denied) else 400
                return self._page(request, len(names), form=form, chosen=chosen, status=status)
            messages.success(request, f"Bulk job {job.pk} is drafted; its rows are looked at.")
            return redirect("admin:fulfillment_bulkjob_change", job.pk)
        return self._page(request, len(names), form=form, chosen=chosen)

    def _draft(
        self, request: HttpRequest, names: Sequence[str], form: DraftForm, action: Action
    ) -> BulkJob:
        return bulk.draft(
            actor=actor_of(request),
            action=action,
            selection=bulk.Selection(
                of=self.bulk_of, names=names, note=request.get_full_path()[:500]
            ),
            reason=form.cleaned_data["reason"],
            evidence=form.cleaned_data["evidence"],
            parameters=form.entered(),
            terms=form.terms(),
        )

    def _page(
        self,
        request: HttpRequest,
        number: int,
        *,
        form: DraftForm | None = None,
        chosen: bulk.ForMany | None = None,
        choices: Sequence[_Choice] = (),
        status: int = 200,
    ) -> HttpResponse:
        model_admin = cast(ModelAdmin, self)
        title = f"Do something to these {number:,}"
        if chosen is not None:
            title = f"{chosen.words}: these {number:,}"
        context = {
            **model_admin.admin_site.each_context(request),
            "title": title,
            "content_title": title,
            "number": number,
            "chosen": None if chosen is None else _choice(chosen),
            "choices": choices,
            "form": form,
            "sent": [
                (name, value)
                for name in ("action", "select_across", "index", "_selected_action")
                for value in request.POST.getlist(name)
            ],
            "back": request.get_full_path(),
            "media": model_admin.media + (form.media if form else model_admin.media),
        }
        return TemplateResponse(request, "desk/bulk/draft.html", context, status=status)


def _choice(offer: bulk.ForMany) -> _Choice:
    repair = operations.repair_of(offer.action)
    return _Choice(
        name=offer.action.value,
        words=title_of(repair),
        told=help_of(repair),
        few="" if offer.for_all else f"possible for {offer.possible:,} of {offer.of:,}",
    )
