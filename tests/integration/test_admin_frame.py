"""What stands around every page: the side bar, one title, and words for what is empty."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from fulfillment import operations
from fulfillment.admin.reading import NewestPaginator
from fulfillment.operations.offering import title_of
from tests import desk, people

pytestmark = pytest.mark.django_db


def _page(client: Client, address: str) -> str:
    answer = client.get(address, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def _here(page: str) -> list[str]:
    """Lines of the side bar that are marked."""
    side, _, _ = page.partition('id="main"')
    found = re.findall(r'<a href="[^"]*" [^>]*\bactive">(.*?)</a>', side, re.DOTALL)
    return [re.findall(r"<span>([^<]+)</span>", one)[0] for one in found]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("/admin/", "Today"),
        ("/admin/oms/order/", "Orders"),
        ("/admin/oms/order/?state__exact=FAILED", "Orders"),
        ("/admin/oms/order/?stuck=any", "Stuck orders"),
        ("/admin/fulfillment/falloutcase/?resolved_at__isempty=1", "Fallout"),
        ("/admin/fulfillment/falloutcase/?resolved_at__isempty=0", "Fallout"),
        ("/admin/fulfillment/approval/", "Approvals"),
        ("/admin/fulfillment/approval/?state__exact=REQUESTED", "To approve"),
    ],
)
def test_one_line_of_the_side_bar_says_where_one_is(
    admin_client: Client, address: str, line: str
) -> None:
    assert _here(_page(admin_client, address)) == [line]


@pytest.mark.parametrize("address", ["/admin/", "/admin/desk/reports", "/admin/desk/workflows"])
def test_a_page_has_one_title(admin_client: Client, address: str) -> None:
    assert _page(admin_client, address).count("<h1") == 1


def test_the_form_of_an_operation_is_called_what_it_does(admin_client: Client) -> None:
    desk.target("alpha")
    page = _page(admin_client, "/admin/fulfillment/operation/operate/target.pause/target:alpha")
    assert page.count("<h1") == 1
    head = page.partition("<h1")[2].partition("</h1>")[0]
    assert title_of(operations.repair_of("target.pause")) in head


def test_the_way_up_from_an_order_is_the_list_of_orders(admin_client: Client) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, offering="usual")
    order = desk.order(desk.item("usual"))
    head = _page(admin_client, f"/admin/orders/{order.reference}").partition("<h1")[2]
    words = re.findall(r">([^<>]+)</(?:a|span)>", head.partition("</h1>")[0])
    assert [one.strip() for one in words] == ["Orders", "chevron_right", order.reference]


def test_an_empty_list_says_why_it_is_empty(admin_client: Client) -> None:
    assert "There are no orders." in _page(admin_client, "/admin/oms/order/")
    filtered = _page(admin_client, "/admin/oms/order/?stuck=any")
    assert "None of the orders is like that." in filtered
    assert "Show all orders" in filtered
    assert "“O-4711”" in _page(admin_client, "/admin/oms/order/?q=O-4711")


def test_orders_are_found_from_every_page_by_whoever_may_see_them(
    client: Client, admin_client: Client
) -> None:
    client.force_login(people.operator("anybody"))
    assert "Find an order" not in _page(client, "/admin/")
    assert 'action="/admin/oms/order/"' in _page(admin_client, "/admin/")


def test_a_list_of_more_than_it_pages_through_says_so(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.target("alpha")
    desk.workflow({"one": desk.task()}, offering="usual")
    desk.order(desk.item("usual"))
    assert "these are the first" not in _page(admin_client, "/admin/oms/order/")
    monkeypatch.setattr(NewestPaginator, "most", 1)
    assert "these are the first 1;" in _page(admin_client, "/admin/oms/order/")
