"""Django app of the orchestrator."""

from __future__ import annotations

from django.apps import AppConfig


class FulfillmentConfig(AppConfig):
    name = "fulfillment"
    verbose_name = "Fulfilment engine"
    default_auto_field = "django.db.models.BigAutoField"
