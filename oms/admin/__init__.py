"""The order desk in the admin; the order's page is the centre of it."""

from oms.admin import cancellations, clients, customers, orders, users

__all__ = ["cancellations", "clients", "customers", "orders", "users"]
