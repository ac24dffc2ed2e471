"""The engine's tables in the admin: to be read, searched and followed, never written."""

from fulfillment.admin import audit, messages, plans, sending, setup, subscribers

__all__ = ["audit", "messages", "plans", "sending", "setup", "subscribers"]
