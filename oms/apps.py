"""Django app of the order desk."""

from __future__ import annotations

from django.apps import AppConfig


class OmsConfig(AppConfig):
    name = "oms"
    verbose_name = "Order desk"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from fulfillment.engine.work import port
        from oms import repairs
        from oms.lifecycle import OrderLifecycle

        port.register(OrderLifecycle())
        repairs.register_all()
