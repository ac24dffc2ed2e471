"""The order desk in the admin; the order's page is the centre of it."""

from fulfillment.admin.operation_form import register_field
from oms.admin import amendments, cancellations, clients, customers, orders, users
from oms.admin.order_page.rewriting import order_field
from oms.repairs.changing import ChangeOrder

register_field(repair=ChangeOrder, name="order", make=order_field)

__all__ = ["amendments", "cancellations", "clients", "customers", "orders", "users"]
