"""The admin against whoever means harm, or copies an address wrongly: what is kept secret stays so,
nothing breaks, nothing can be made to read a whole table, and what is shown may also be done."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from fulfillment.actions import Action
from fulfillment.models import (
    Attempt,
    FalloutCase,
    Resource,
    ResourceLock,
    Subscription,
    Task,
    Transition,
)
from oms.models import ApiKey, Order
from tests import people
from tests.pages import address_of, desk_models, text_of

pytestmark = pytest.mark.django_db
NUL = "\0"


def asked(model: type[Model], **lookups: str) -> str:
    return f"{address_of(model, 'changelist')}?{urlencode(lookups)}"


# --- what lists are asked for --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "lookups"),
    [
        (Subscription, {"secret__startswith": "whsec_"}),
        (Subscription, {"secret__gte": "whsec_a"}),
        (Subscription, {"secret__lt": "whsec_z"}),
        (Subscription, {"next_secret__regex": "^w"}),
        (ApiKey, {"secret_hash__startswith": "a"}),
        (ApiKey, {"secret_hash__lte": "b"}),
        (ApiKey, {"user__password__startswith": "a"}),
        (User, {"password__startswith": "a"}),
        (User, {"username__regex": "(a+)+$"}),
        (Order, {"customer_email__iregex": "(a|a)*$"}),
        (Order, {"customer_name__icontains": "a"}),
        (Order, {"items__offering": "thing"}),
        (Order, {"items__isnull": "0"}),
        (Order, {"submitted_at__year": "2026"}),
        (Task, {"outputs__number": "N-1"}),
        (Task, {"outputs__has_key": "number"}),
        (Task, {"commands__payload__contains": "1"}),
    ],
)
def test_a_list_is_not_asked_for_parts_of_a_text(
    boss: Client, halfway: Order, model: type[Model], lookups: dict[str, str]
) -> None:
    """Letter by letter that would tell what no page shows; and it would read all rows."""
    refused = boss.get(asked(model, **lookups))
    assert (refused.status_code, refused.headers["Location"]) == (
        302,
        address_of(model, "changelist"),
    )
    assert "not filtered like that" in text_of(boss, refused.headers["Location"])


@pytest.mark.parametrize(
    ("model", "lookups"),
    [
        (Transition, {"cause": "x"}),
        (Task, {"blocked_reason": "x"}),
        (Order, {"plan_open": "1"}),
        (Order, {"customer_email": "x"}),
        (Attempt, {"message__exact": "x"}),
        (Order, {"no_such_thing": "x"}),
    ],
)
def test_a_list_is_not_asked_for_what_no_index_finds(
    boss: Client, halfway: Order, model: type[Model], lookups: dict[str, str]
) -> None:
    assert boss.get(asked(model, **lookups)).status_code == 302


def test_an_action_does_not_reach_further_than_its_list(boss: Client, halfway: Order) -> None:
    """All that a list finds, for a filter that it does not know, is not all that there is."""
    forged = {"action": "do_to_all", "select_across": "1", "_selected_action": str(halfway.pk)}
    answer = boss.post(asked(Order, customer_name__icontains="zzz"), forged)
    assert answer.headers["Location"] == address_of(Order, "changelist")


def test_a_list_is_in_the_order_that_it_offers_and_in_no_other(
    boss: Client, halfway: Order
) -> None:
    for model in desk_models():
        address = address_of(model, "changelist")
        plain = boss.get(address).context["cl"]
        if getattr(plain.model_admin, "sortable_by", None) != ():
            continue
        turned = boss.get(f"{address}?o=1.-2.3").context["cl"]
        assert str(turned.queryset.query.order_by) == str(plain.queryset.query.order_by), model


# --- what can't be stored, or be the number of a row ---------------------------------------------


def test_what_no_column_can_hold_finds_nothing_and_breaks_nothing(
    boss: Client, halfway: Order
) -> None:
    order = address_of(Order, "change", halfway.pk)
    case = address_of(FalloutCase, "change", FalloutCase.objects.values_list("pk", flat=True)[0])
    for address in (
        f"{order}?{urlencode({'key': NUL})}",
        f"{order}?{urlencode({'task': NUL})}",
        f"{order}?{urlencode({'from': NUL})}",
        f"{case}?{urlencode({'_changelist_filters': NUL})}",
        asked(User, username=NUL),
        asked(User, q=NUL),
        f"{reverse('admin:fulfillment_hold_place')}?{urlencode({'scope': NUL, 'name': NUL})}",
    ):
        assert boss.get(address, follow=True).status_code == 200, address
        looked = boss.get(address, headers={"HX-Request": "true", "HX-Target": "order-entries"})
        assert looked.status_code < 500, address


@pytest.mark.parametrize(
    "subject",
    ["order:", "order:/1", "item:", "action:/x", "task:", "task:" + "9" * 40, "target:x\ny", ":"],
)
def test_a_form_about_nothing_says_so(halfway: Order, subject: str) -> None:
    anna = browser("anna", *people.EVERYTHING)
    for action in (Action.HOLD_PLACE, Action.TASK_RETRY, Action.ORDER_CANCEL, Action.TARGET_PAUSE):
        address = reverse("admin:fulfillment_operate", args=[action.value, subject])
        assert anna.get(address).status_code < 500
        assert anna.post(address, {"reason": "Why."}).status_code in (400, 403, 404, 409)


def test_the_board_of_locks_bears_the_names_that_customers_have(
    boss: Client, halfway: Order
) -> None:
    """Clients choose the ids of their customers, and locks are called by them."""
    lock = ResourceLock.objects.get()
    Resource.objects.create(name="customer", kept_by="PLAN")
    for name in ("customer:C\n1", "customer:<script>", "customer:../x", "customer:"):
        ResourceLock.objects.filter(pk=lock.pk).update(name=name)
        anna = browser("anna", *people.EVERYTHING, is_superuser=True)
        text = text_of(anna, reverse("desk_locks"))
        assert "<script>" not in text.partition("</head>")[2].replace("<script src", "")
        assert text_of(anna, address_of(ResourceLock, "change", lock.pk))


def browser(name: str, *actions: Action, is_superuser: bool = False, **scopes: Any) -> Client:
    user = people.operator(name, *actions, **scopes)
    if is_superuser:
        User.objects.filter(pk=user.pk).update(is_superuser=True)
    client = Client()
    client.force_login(user)
    return client
