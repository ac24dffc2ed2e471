"""Addresses and texts of the admin's pages, for tests that walk through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import psycopg
from django.contrib.admin import site
from django.db.models import Model
from django.test import Client
from django.urls import reverse


def address_of(model: type[Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def text_of(client: Client, address: str) -> str:
    """The page behind `address`, which must be there."""
    response = client.get(address, follow=True)
    assert response.status_code == 200, address
    return str(response.content.decode())


def desk_models() -> list[type[Model]]:
    """Everything of ours that the admin shows."""
    return [model for model in site._registry if model._meta.app_label in ("oms", "fulfillment")]


def questions(work: Callable[[], Any]) -> int:
    """How many statements it sends: also those that Django does not know of."""
    execute, sent = psycopg.Cursor.execute, []

    def noted(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        sent.append(query)
        return execute(self, query, params, **options)

    with mock.patch.object(psycopg.Cursor, "execute", noted):
        work()
    return len(sent)
