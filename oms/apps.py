"""Django app of the order desk."""

from __future__ import annotations

from django.apps import AppConfig


class OmsConfig(AppConfig):
    name = "oms"
    verbose_name = "Order desk"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from fulfillment.audit import entities
        from fulfillment.engine.work import port
        from oms.audited import ENTITIES
        from oms.lifecycle import OrderLifecycle

        port.register(OrderLifecycle())
        entities.register(*ENTITIES)
