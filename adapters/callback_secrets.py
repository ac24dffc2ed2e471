"""Which secrets the callbacks of a target system are signed with.

OMS_CALLBACK_SECRET             shared by all targets
OMS_CALLBACK_SECRET_STOCK_ROOM  of the target stock-room alone, which the shared one then is not
OMS_NEXT_CALLBACK_SECRET[_…]    live as well, so that both sides can change one after the other
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

SHARED = "OMS_CALLBACK_SECRET"
SHARED_NEXT = "OMS_NEXT_CALLBACK_SECRET"
_VARIABLE = re.compile(rf"(?:{SHARED}|{SHARED_NEXT})(?:_.+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSecrets:
    """By variable: in capitals, every dash of a target's name an underscore."""

    by_variable: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, *, names: Iterable[str], look_up: Callable[[str], str]) -> CallbackSecrets:
        """Of all `names` of variables those that matter; `<name>_FILE` is `look_up`'s affair."""
        plain = {name.removesuffix("_FILE") for name in names if _VARIABLE.fullmatch(name)}
        found = {_normal(name): look_up(name) for name in sorted(plain)}
        return cls(by_variable={name: secret for name, secret in found.items() if secret})

    def or_shared(self, secret: str) -> CallbackSecrets:
        """The same, with `secret` for all targets where none is set."""
        given = {SHARED: secret} if secret else {}
        return CallbackSecrets(by_variable={**given, **self.by_variable})

    def of(self, target: str) -> tuple[str, ...]:
        """At most two, the older one first. None at all: nothing from there is believed."""
        own, own_next, shared, shared_next = (
            self.by_variable.get(name, "")
            for name in (
                *(variable(target), _normal(f"{SHARED_NEXT}_{target}")),
                *(SHARED, SHARED_NEXT),
            )
        )
        live = (own, own_next) if own else (shared, own_next or shared_next)
        return tuple(secret for secret in live if secret)


def variable(target: str) -> str:
    """The variable that holds the target's own secret."""
    return _normal(f"{SHARED}_{target}")


def _normal(name: str) -> str:
    return name.upper().replace("-", "_")
