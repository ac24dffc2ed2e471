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
        from fulfillment.operations import bulk
        from fulfillment.queries import standing
        from oms import repairs
        from oms.audited import ENTITIES
        from oms.lifecycle import OrderLifecycle
        from oms.queries.standing import order_standing
        from oms.selecting import ORDERS

        port.register(OrderLifecycle())
        repairs.register_all()
        bulk.register_listing(ORDERS)
        entities.register(*ENTITIES)
        standing.register(kind="order", describe=order_standing)
        standing.register(kind="item", describe=order_standing)
