"""Why an order is not amended; each with a stable code, and what to do instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oms.intake.requests import OrderFault


class AmendmentError(Exception):
    """Nothing was changed, and nothing is kept of the request."""

    def __init__(
        self, code: str, message: str, *, faults: Sequence[OrderFault] = (), **facts: Any
    ) -> None:
        self.code = code
        self.message = message
        self.faults = tuple(faults)
        self.facts = facts
        super().__init__(message)


def invalid(faults: Sequence[OrderFault]) -> AmendmentError:
    """The revised order breaks rules; all that were found."""
    codes = ", ".join(dict.fromkeys(fault.code for fault in faults))
    return AmendmentError(
        "amendment.invalid",
        f"The revised order breaks rules ({codes}). The order stays as it is: correct everything "
        "in `errors` and send it again.",
        faults=faults,
    )
