"""What all pages of the desk have in common: who may see them, and how they look again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse

from fulfillment.admin.pages import LeaveMessages, Page
from oms.api.problems import server_error
from tests.people import operator

pytestmark = pytest.mark.django_db


class Secret(Page):
    name = "secret"
    title = "Secret"
    permissions = ("fulfillment.view_targetsystem", "fulfillment.view_hold")
    template_name = "desk/today/today.html"

    def content(self) -> Mapping[str, Any]:
        return {"found": "it"}


def asked(user: User | AnonymousUser, **headers: str) -> HttpRequest:
    request = RequestFactory().get("/admin/desk/secret", headers=headers)
    request.user = user
    return request


def test_the_admin_begins_with_today(client: Client) -> None:
    client.force_login(operator("anybody"))
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 200
    assert "desk/today/today.html" in [one.name for one in answer.templates]


def test_whoever_is_not_signed_in_sees_no_page(client: Client) -> None:
    answer = client.get(reverse("admin:index"))
    assert answer.status_code == 302
    assert reverse("admin:login") in answer["Location"]


def test_a_page_is_for_whoever_holds_one_of_its_permissions() -> None:
    user = operator("anybody")
    with pytest.raises(PermissionDenied, match="Secret"):
        Secret.as_view()(asked(user))
    user.user_permissions.add(Permission.objects.get(codename="view_hold"))
    answer = Secret.as_view()(asked(User.objects.get(pk=user.pk)))
    assert answer.context_data["found"] == "it"


def test_an_open_page_takes_over_its_content_alone(client: Client) -> None:
    client.force_login(operator("anybody"))
    whole = client.get(reverse("admin:index")).content.decode()
    again = client.get(reverse("admin:index"), headers={"HX-Request": "true"}).content.decode()
    assert "nav-sidebar" in whole
    assert "nav-sidebar" not in again
    assert again.lstrip().startswith('<div id="desk-live"')
    assert 'hx-get="/admin/"' in again
    assert 'hx-get="/admin/"' in whole


def test_what_is_to_be_told_waits_for_a_page_that_is_asked_for() -> None:
    def told(**headers: str) -> list[str]:
        request = asked(AnonymousUser(), **headers)
        request._messages = ["It is done."]  # type: ignore[attr-defined]
        found: list[str] = []

        def view(request: HttpRequest) -> HttpResponse:
            found.extend(str(one) for one in messages.get_messages(request))
            return HttpResponse()

        LeaveMessages(view)(request)
        return found

    assert told() == ["It is done."]
    assert told(**{"HX-Request": "true"}) == []


@pytest.mark.parametrize(
    ("address", "status", "told"),
    [
        ("/admin/desk/none", 404, "There is no such page"),
        ("/admin/desk/targets", 403, "You may not see this page: Targets."),
    ],
)
def test_what_is_not_shown_says_so_and_leads_to_the_desk(
    client: Client, address: str, status: int, told: str
) -> None:
    client.force_login(operator("anybody"))
    answer = client.get(address)
    assert answer.status_code == status
    assert told in answer.content.decode()
    assert 'href="/admin/"' in answer.content.decode()
    assert "<title>" in answer.content.decode()


def test_a_page_that_fails_says_what_to_do_without_telling_why(client: Client) -> None:
    request = RequestFactory().get("/admin/desk/today")
    shown = server_error(request).content.decode()
    assert "This page has failed" in shown
    assert "log of operations" in shown
