"""From a target system's row to the adapter that talks to it.

The engine knows adapters by their contract and by `build_adapter` alone. A kind is a name in
this registry, never a dotted path: data chooses among the code that is here, it never loads any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from adapters.contract import Adapter, Capabilities
from adapters.settings import AdapterMisconfigured

__all__ = [
    "AdapterFactory",
    "AdapterMisconfigured",
    "build_adapter",
    "known_kinds",
    "register_adapter",
]


class AdapterFactory(Protocol):
    """Makes one adapter, shared by all threads, or raises AdapterMisconfigured."""

    def __call__(
        self, *, target: str, settings: Mapping[str, Any], capabilities: Capabilities
    ) -> Adapter: ...


def build_adapter(
    *, kind: str, target: str, settings: Mapping[str, Any], capabilities: Capabilities
) -> Adapter:
    """The adapter of `kind` for one target system.

    Raises AdapterMisconfigured for an unknown kind, and for settings that the kind refuses.
    """
    factory = _factories.get(kind)
    if factory is None:
        raise AdapterMisconfigured(
            f"Target system {target!r} has the adapter {kind!r}, which does not exist. "
            f"Choose one of: {', '.join(known_kinds())}.",
            code="adapter.unknown_kind",
        )
    return factory(target=target, settings=settings, capabilities=capabilities)


def register_adapter(*, kind: str, factory: AdapterFactory) -> None:
    """Make another kind of adapter known. Raises ValueError when the name is taken."""
    if _factories.setdefault(kind, factory) is not factory:
        raise ValueError(f"The adapter kind {kind!r} exists already; choose another name.")


def known_kinds() -> list[str]:
    """Every kind that a target system's row may name, sorted."""
    return sorted(_factories)


def _http(*, target: str, settings: Mapping[str, Any], capabilities: Capabilities) -> Adapter:
    # Imported when first used: a worker with in-process targets alone needs no HTTP client.
    from adapters.http import HttpAdapter

    return HttpAdapter(target=target, settings=settings, capabilities=capabilities)


def _python(*, target: str, settings: Mapping[str, Any], capabilities: Capabilities) -> Adapter:
    from adapters.python_function import PythonFunctionAdapter

    return PythonFunctionAdapter(target=target, settings=settings, capabilities=capabilities)


def _messaging(*, target: str, settings: Mapping[str, Any], capabilities: Capabilities) -> Adapter:
    from adapters.messaging import MessagingAdapter

    return MessagingAdapter(target=target, settings=settings, capabilities=capabilities)


_factories: dict[str, AdapterFactory] = {
    "http": _http,
    "messaging": _messaging,
    "python": _python,
}
