"""What can be new about an order that runs already (reference §20)."""

from __future__ import annotations

import enum


class ChangeKind(enum.StrEnum):
    QUANTITY = "quantity"
    CHARACTERISTICS = "characteristics"
    ADDRESS = "address"
    """The place of an item."""
    CONTACT = "contact"
    """Customer's name and e-mail address, the parties of an item."""
    PRICE = "price"
    """Prices, and the billing account."""
    ITEMS = "items"
    """An item has come, or gone."""
