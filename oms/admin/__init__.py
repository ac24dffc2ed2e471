"""The order desk in the admin; the order's page is the centre of it."""

from oms.admin import amendments, clients, customers, orders, users

__all__ = ["amendments", "clients", "customers", "orders", "users"]
