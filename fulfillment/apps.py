"""Django app of the orchestrator."""

from __future__ import annotations

from django.apps import AppConfig


class FulfillmentConfig(AppConfig):
    name = "fulfillment"
    verbose_name = "Fulfilment engine"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from fulfillment.engine.store import guards

        # For the tables of every app: guards.install looks which have a state machine.
        post_migrate.connect(guards.install, dispatch_uid="fulfillment.guards")
