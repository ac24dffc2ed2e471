"""Target systems that are functions in this process.

    @handler(target="crm", action="update")
    def update(command: Command) -> Mapping[str, Any]: ...

A handler is found by its target and action in a table that the decorator fills when its module
is imported; a name that comes from data never becomes code. "*" stands for any target or any
action, and the more exact registration wins (the target counts more than the action).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.settings import refuse_unknown_settings

Handler = Callable[[Command], Outcome | Mapping[str, Any] | None]
"""Does the work. None and a mapping (the outputs) mean SUCCEEDED."""
QueryHandler = Callable[[Command], Outcome]
"""Says what became of `command.idempotency_key`; always with an explicit outcome, so that a
forgotten `return` is never read as "this has not happened"."""

ANY = "*"
_F = TypeVar("_F", bound=Callable[..., Any])


class NoEffect(Exception):
    """Raised by a handler that failed and knows that nothing happened: FAILED, not UNKNOWN."""

    def __init__(
        self,
        code: str,
        message: str,
        retryable: bool = False,
        *,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after


class Handlers:
    """A table of handlers; `handler` and `query_handler` below fill the one of this process."""

    def __init__(self) -> None:
        self._send: dict[tuple[str, str], Callable[..., Any]] = {}
        self._query: dict[tuple[str, str], Callable[..., Any]] = {}

    def handler(self, *, target: str, action: str) -> Callable[[_F], _F]:
        """Register the decorated `Handler`. Raises ValueError when another one is there."""
        return self._registering(self._send, target, action)

    def query_handler(self, *, target: str, action: str) -> Callable[[_F], _F]:
        """Register the decorated `QueryHandler`. Raises ValueError when another one is there."""
        return self._registering(self._query, target, action)

    def sending(self, target: str, action: str) -> Callable[..., Any] | None:
        return _most_exact(self._send, target, action)

    def querying(self, target: str, action: str) -> Callable[..., Any] | None:
        return _most_exact(self._query, target, action)

    def _registering(
        self, table: dict[tuple[str, str], Callable[..., Any]], target: str, action: str
    ) -> Callable[[_F], _F]:
        def register(function: _F) -> _F:
            there = table.setdefault((target, action), function)
            # A module that is imported again brings the same function as a new object.
            if _origin(there) != _origin(function):
                raise ValueError(
                    f"{target}.{action} is handled by {'.'.join(_origin(there))} already; "
                    "remove one of the two registrations."
                )
            table[(target, action)] = function
            return function

        return register


class PythonFunctionAdapter:
    """Calls the handler registered for the command's target and action."""

    in_process = True

    def __init__(
        self,
        *,
        target: str,
        settings: Mapping[str, Any] | None = None,
        capabilities: Capabilities,
        handlers: Handlers | None = None,
    ) -> None:
        """Raises AdapterMisconfigured: this kind has no settings."""
        refuse_unknown_settings(target=target, settings=settings or {}, known=frozenset())
        self.capabilities = capabilities
        self._target = target
        self._handlers = HANDLERS if handlers is None else handlers

    def handles(self, *, action: str) -> bool:
        """Whether a function of this process does it; orders in flight may need an old one."""
        return self._handlers.sending(self._target, action) is not None

    def send(self, *, command: Command) -> Outcome:
        function = self._handlers.sending(command.target, command.action)
        if function is None:
            return Outcome(
                kind=OutcomeKind.FAILED,
                code="no_handler",
                message=f"No function of this process handles {command.target}.{command.action}; "
                "import the module that registers it, or correct the action.",
            )
        try:
            answer = function(command)
        except NoEffect as failure:
            return _no_effect(failure)
        except Exception as error:
            return Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="handler_raised",
                message=f"The handler raised {type(error).__name__}: {error}",
            )
        if answer is None:
            return Outcome(kind=OutcomeKind.SUCCEEDED)
        if isinstance(answer, Outcome):
            return answer
        if isinstance(answer, Mapping):
            return Outcome(kind=OutcomeKind.SUCCEEDED, outputs=answer)
        return _no_outcome(answer)

    def query(self, *, command: Command) -> Outcome:
        function = self._handlers.querying(command.target, command.action)
        if function is None:
            return Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="no_status_query",
                message=f"No function of this process can say what became of "
                f"{command.target}.{command.action}.",
            )
        try:
            answer = function(command)
        except Exception as error:
            return Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="handler_raised",
                message=f"The query handler raised {type(error).__name__}: {error}",
            )
        return answer if isinstance(answer, Outcome) else _no_outcome(answer)


def _most_exact(
    table: dict[tuple[str, str], Callable[..., Any]], target: str, action: str
) -> Callable[..., Any] | None:
    return (
        table.get((target, action))
        or table.get((target, ANY))
        or table.get((ANY, action))
        or table.get((ANY, ANY))
    )


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return (
        getattr(function, "__module__", ""),
        getattr(function, "__qualname__", repr(function)),
    )


def _no_effect(failure: NoEffect) -> Outcome:
    return Outcome(
        kind=OutcomeKind.FAILED,
        code=failure.code,
        message=failure.message,
        retryable=failure.retryable,
        retry_after=failure.retry_after,
    )


def _no_outcome(answer: object) -> Outcome:
    return Outcome(
        kind=OutcomeKind.UNKNOWN,
        code="handler_answer",
        message=f"The handler returned {type(answer).__name__}, which says nothing about what "
        "happened.",
    )


HANDLERS = Handlers()
handler = HANDLERS.handler
query_handler = HANDLERS.query_handler
