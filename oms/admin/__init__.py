"""The order desk in the admin; the order's page is the centre of it."""

from oms.admin import clients, customers, orders, users

__all__ = ["clients", "customers", "orders", "users"]
