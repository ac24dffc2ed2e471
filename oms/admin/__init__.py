"""The order desk in the admin; the order's page is the centre of it."""

from oms.admin import amendments, cancellations, clients, customers, orders, users

__all__ = ["amendments", "cancellations", "clients", "customers", "orders", "users"]
