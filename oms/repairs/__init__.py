"""Operations on orders, as the order desk has them; the rest is `fulfillment.operations`."""

from fulfillment.operations import register
from oms.repairs.cancelling import CancelOrder
from oms.repairs.changing import ChangeOrder


def register_all() -> None:
    """Once, while the app starts."""
    register(CancelOrder(), ChangeOrder())
