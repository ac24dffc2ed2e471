"""The order desk in the admin; the order's page is the centre of it."""

from oms.admin import clients, orders, users

__all__ = ["clients", "orders", "users"]
