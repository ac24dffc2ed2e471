"""Keys of people: they act in their own name, and neither they nor clients pass for the other."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction

from oms.models import ApiClient, ApiKey
from tests import people
from tests.api import Api, an_order, problem

pytestmark = pytest.mark.django_db


def test_a_persons_key_does_not_act_as_a_client() -> None:
    api = Api(user=people.operator("anna", *people.EVERYTHING))
    for answer in (api.get("/orders"), api.post(an_order()), api.get("/assets?customer=C-1")):
        assert answer.status_code == 403
        assert problem(answer)["code"] == "auth.key_of_a_person"


def test_a_key_of_somebody_who_has_left_is_refused() -> None:
    anna = people.operator("anna", *people.EVERYTHING)
    api = Api(user=anna)
    User.objects.filter(pk=anna.pk).update(is_active=False)
    answer = api.get("/orders")
    assert answer.status_code == 401
    assert problem(answer)["code"] == "auth.inactive"


def test_a_key_belongs_to_a_client_or_to_a_person() -> None:
    anna = people.operator("anna")
    client = ApiClient.objects.create(name="shop")
    for whose in ({"client": client, "user": anna}, {}):
        with pytest.raises(IntegrityError), transaction.atomic():
            ApiKey.objects.create(prefix="0" * 12, secret_hash="x", **whose)


def test_a_key_for_a_person_is_made_for_an_active_user_only() -> None:
    people.operator("anna")
    User.objects.create(username="gone", is_active=False)
    out = StringIO()
    call_command("api_key", "create", "--user", "anna", "--quiet", stdout=out)
    assert out.getvalue().startswith("oms_")
    assert ApiKey.objects.get().user == User.objects.get(username="anna")
    listed = StringIO()
    call_command("api_key", "list", stdout=listed)
    assert "user anna" in listed.getvalue()
    for name in ("gone", "nobody"):
        with pytest.raises(CommandError, match="no active user"):
            call_command("api_key", "create", "--user", name)
