"""API clients and their keys: to be seen and revoked. Keys are made by `manage.py api_key`."""

from __future__ import annotations

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from fulfillment.actions import Action
from fulfillment.admin.asking import actor_of, holds_here
from fulfillment.admin.reading import DeskAdmin, Reading, ReadOnlyInline
from fulfillment.errors import Denied
from oms.keys import revoke_key
from oms.models import ApiClient, ApiKey


class ApiKeyInline(ReadOnlyInline):
    model = ApiKey
    fields = ("row", "scopes", "created_at", "expires_at", "revoked_at")
    readonly_fields = fields


@admin.register(ApiClient)
class ApiClientAdmin(Reading, DeskAdmin):
    list_display = ("name", "created_at")
    search_fields = ("name",)
    list_before_template = "desk/clients/keys.html"
    inlines = (ApiKeyInline,)


@admin.register(ApiKey)
class ApiKeyAdmin(Reading, DeskAdmin):
    list_display = ("prefix", "holder", "scope_words", "created_at", "expires_at", "revoked_at")
    list_filter = ("client", "user", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("client", "user")
    search_fields = ("prefix", "client__name", "user__username")
    search_help_text = "Prefix, client or user"
    list_before_template = "desk/clients/keys.html"
    fields = (
        ("holder", "prefix"),
        "scope_words",
        ("created_at", "expires_at"),
        "revoked_at",
    )
    readonly_fields = ("scope_words",)
    actions = ("revoke",)

    @display(description="scopes")
    def scope_words(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return holds_here(request, Action.KEY_EDIT)

    @admin.action(description="Revoke: the key stops working at once", permissions=["revoke"])
    def revoke(self, request: HttpRequest, keys: QuerySet[ApiKey]) -> None:
        working = list(keys.filter(revoked_at=None))
        for key in working:
            try:
                revoke_key(prefix=key.prefix, actor=actor_of(request))
            except Denied as error:
                raise PermissionDenied(str(error)) from None
            self.log_change(request, key, "Revoked.")
        if working:
            names = ", ".join(str(key) for key in working)
            self.message_user(request, f"Revoked, and refused from now on: {names}.")
        else:
            self.message_user(request, "They were revoked before.", messages.WARNING)
