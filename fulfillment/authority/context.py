"""What an action is about, as far as authority looks at it: pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from fulfillment.states import Domain

MONEY = frozenset({Domain.BILLING, Domain.PAYMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where something is to be done. What is empty is not known, and covered by no scope that
    asks for it."""

    subject: str
    """Such as `task:12`, `order:O-17` or `target:billing`."""
    order_reference: str = ""
    owner: str = ""
    """The client whose order it is, as the engine knows it."""
    region: str = ""
    targets: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    """Of these targets: values of `Domain`."""
    products: frozenset[str] = frozenset()
    """The offerings that it serves."""
    amounts: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}))
    """By currency, what these items are sold for: once and one period."""
    role: str = ""
    """The group whose members alone decide it, as a manual task says."""
    is_activated: bool = False
    """Something of the order is in use by its customer already."""

    def document(self) -> dict[str, Any]:
        """As JSON, for the log of decisions."""
        return {
            "subject": self.subject,
            "order": self.order_reference,
            "owner": self.owner,
            "region": self.region,
            "targets": sorted(self.targets),
            "domains": sorted(self.domains),
            "products": sorted(self.products),
            "amounts": {currency: str(amount) for currency, amount in self.amounts.items()},
            "role": self.role,
            "is_activated": self.is_activated,
        }
