"""The engine's tables in the admin: to be read, searched and followed, never written."""

from fulfillment.admin import messages, plans, setup

__all__ = ["messages", "plans", "setup"]
