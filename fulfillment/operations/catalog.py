"""Every operation by its action, and the one way to have it done.

The admin, the API, `manage.py` and bulk jobs come through here.
"""

from __future__ import annotations

from collections.abc import Iterator

from fulfillment.actions import Action
from fulfillment.authority.actors import Actor
from fulfillment.errors import ActionUnknown
from fulfillment.operations.preparing import Prepared, prepare
from fulfillment.operations.repair import Done, Repair, Request

_known: dict[Action, Repair] = {}


def register(*repairs: Repair) -> None:
    """Called while apps start; the order desk adds those that are about orders."""
    for repair in repairs:
        assert _known.setdefault(repair.action, repair) is repair, repair.action


def repair_of(action: str) -> Repair:
    """Raises ActionUnknown."""
    try:
        return _known[Action(action)]
    except (KeyError, ValueError):
        names = ", ".join(sorted(known.value for known in _known))
        raise ActionUnknown(f"There is no operation {action[:60]!r}; there are: {names}.") from None


def repairs_about(about: str) -> Iterator[Repair]:
    """Those whose subjects are of this kind, in the order in which they were registered."""
    return (
        repair for repair in _known.values() if about == repair.about or about in repair.also_about
    )


def every_repair() -> Iterator[Repair]:
    """All of them, in the order in which they were registered."""
    return iter(_known.values())


def prepared(*, actor: Actor, request: Request) -> Prepared:
    """What `request` asks for, known, complete and allowed. Raises as `preparing.prepare` does."""
    return prepare(repair=repair_of(request.action), actor=actor, request=request)


def perform(*, actor: Actor, request: Request) -> Done:
    """Do what one person alone may do, at once.

    Raises as `preparing.prepare` does, NotPossible, and ApprovalNeeded for what needs a second one.
    """
    return prepared(actor=actor, request=request).perform()
