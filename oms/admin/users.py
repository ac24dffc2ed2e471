"""Users and roles in the look of the other pages.

What they may do is changed by an operation (`grant.edit`) alone, with a reason and on record.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from fulfillment.actions import APPROVALS, Action
from fulfillment.admin.asking import actor_of, held_here, may
from fulfillment.admin.authority import access_link, grants_link
from fulfillment.admin.reading import DeskAdmin
from fulfillment.authority.actors import person
from fulfillment.authority.authorizing import held
from fulfillment.authority.context import Context
from fulfillment.engine.store.database import cursor
from fulfillment.operations.records import log, now_of

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class DeskUserAdmin(UserAdmin, DeskAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_filter = ("is_active", "is_superuser", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Who it is", {"fields": ("first_name", "last_name", "email")}),
        (
            "What they may do",
            {"fields": ("is_active", "is_superuser", "roles", "grants", "access")},
        ),
        ("When", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = (
        "is_active",
        "is_superuser",
        "roles",
        "grants",
        "access",
        "last_login",
        "date_joined",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Every log names people by it.
        return (*self.readonly_fields, "username") if obj is not None else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: what they have done stays theirs. They are made inactive."""
        return False

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """One's own; that of others with authority, and never of, or by, somebody who approves:
        whoever knew it would be two people."""
        user = self.get_object(request, id)
        if request.method == "POST" and user is not None and user.pk != request.user.pk:
            context = Context(subject=f"user:{user.get_username()}")
            may(request, Action.GRANT_EDIT, context)
            theirs = held(actor=person(name=user.get_username(), user_id=user.pk))
            if not APPROVALS.isdisjoint(theirs):
                raise PermissionDenied(
                    f"{user} approves what others ask for, so nobody else sets that password "
                    "here. `manage.py changepassword` on the server does."
                )
            if not APPROVALS.isdisjoint(held_here(request)):
                raise PermissionDenied(
                    "You approve what others ask for, so you set nobody's password but your own. "
                    "`manage.py changepassword` on the server does."
                )
            with cursor() as raw:
                log(
                    kind="set_password",
                    subject=context.subject,
                    actor=actor_of(request).name,
                    reason="",
                    now=now_of(raw),
                )
        shown: HttpResponse = super().user_change_password(request, id, form_url)
        return shown

    @display(description="roles")
    def roles(self, user: User) -> str:
        return ", ".join(user.groups.order_by("name").values_list("name", flat=True)) or "none"

    @display(description="grants of their own")
    def grants(self, user: User) -> str:
        return grants_link(user__id__exact=user.pk)

    @display(description="to change it")
    def access(self, user: User) -> str:
        return access_link(f"user:{user}")


@admin.register(Group)
class DeskGroupAdmin(GroupAdmin, DeskAdmin):
    fields = ("name", "who", "permissions_text", "grants", "access")
    readonly_fields = ("who", "permissions_text", "grants", "access")
    filter_horizontal = ()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "name") if obj is not None else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: its grants would go with it, and no record would say so."""
        return False

    @display(description="who is in it")
    def who(self, group: Group) -> str:
        return (
            ", ".join(group.user_set.order_by("username").values_list("username", flat=True))
            or "nobody"
        )

    @display(description="permissions")
    def permissions_text(self, group: Group) -> str:
        names = group.permissions.order_by("codename").values_list("name", flat=True)
        return ", ".join(names) or "none"

    @display(description="where it may use them")
    def grants(self, group: Group) -> str:
        return grants_link(group__id__exact=group.pk)

    @display(description="to change it")
    def access(self, group: Group) -> str:
        return access_link(f"group:{group}")
