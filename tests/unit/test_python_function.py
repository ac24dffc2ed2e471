"""Handlers in this process: how they are found, and what their answers become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.python_function import Handlers, NoEffect, PythonFunctionAdapter
from adapters.registry import AdapterMisconfigured, build_adapter, known_kinds, register_adapter

CAN_ALL = Capabilities(idempotent=True, status_query=True)


def command(*, target: str = "crm", action: str = "update") -> Command:
    return Command(
        command_id=1,
        idempotency_key="a" * 64,
        target=target,
        action=action,
        payload={"customer": "c-1"},
        order_reference="order-1",
        correlation_id="correlation-1",
        attempt=1,
        deadline=timedelta(seconds=1),
    )


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


def sent(handlers: Handlers, **which: str) -> Outcome:
    adapter = PythonFunctionAdapter(target="crm", capabilities=CAN_ALL, handlers=handlers)
    return adapter.send(command=command(**which))


def named(name: str) -> Callable[[Command], Mapping[str, Any]]:
    def function(_: Command) -> Mapping[str, Any]:
        return {"by": name}

    function.__qualname__ = name
    return function


def test_the_most_exact_registration_wins(handlers: Handlers) -> None:
    for target, action in (("crm", "update"), ("crm", "*"), ("*", "update"), ("*", "*")):
        handlers.handler(target=target, action=action)(named(f"{target}.{action}"))
    found = {
        (target, action): sent(handlers, target=target, action=action).outputs["by"]
        for target in ("crm", "billing")
        for action in ("update", "delete")
    }
    assert found == {
        ("crm", "update"): "crm.update",
        ("crm", "delete"): "crm.*",
        ("billing", "update"): "*.update",
        ("billing", "delete"): "*.*",
    }


def test_none_is_success_without_outputs(handlers: Handlers) -> None:
    handlers.handler(target="crm", action="update")(lambda _: None)
    assert sent(handlers) == Outcome(kind=OutcomeKind.SUCCEEDED)


def test_an_outcome_is_passed_on_as_it_is(handlers: Handlers) -> None:
    refusal = Outcome(kind=OutcomeKind.REJECTED, code="blocked_customer")
    handlers.handler(target="crm", action="update")(lambda _: refusal)
    assert sent(handlers) is refusal


def test_an_action_without_a_handler_fails_for_good(handlers: Handlers) -> None:
    outcome = sent(handlers)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "no_handler")
    assert not outcome.retryable


def test_a_name_from_data_is_never_imported(handlers: Handlers) -> None:
    assert sent(handlers, action="os.getpid").code == "no_handler"


def test_an_exception_leaves_the_outcome_unknown(handlers: Handlers) -> None:
    @handlers.handler(target="crm", action="update")
    def broken(_: Command) -> None:
        raise KeyError("customer")

    outcome = sent(handlers)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "handler_raised")
    assert "KeyError: 'customer'" in outcome.message


@pytest.mark.parametrize("retryable", [True, False])
def test_no_effect_is_a_failure_and_not_unknown(handlers: Handlers, retryable: bool) -> None:
    @handlers.handler(target="crm", action="update")
    def busy(_: Command) -> None:
        raise NoEffect("locked", "The record is locked.", retryable)

    outcome = sent(handlers)
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "locked")
    assert outcome.message == "The record is locked."
    assert outcome.retryable is retryable


def test_an_answer_of_another_type_leaves_the_outcome_unknown(handlers: Handlers) -> None:
    handlers.handler(target="crm", action="update")(lambda _: ["done"])
    outcome = sent(handlers)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "handler_answer")


def test_two_functions_for_one_action_are_refused(handlers: Handlers) -> None:
    handlers.handler(target="crm", action="update")(named("first"))
    with pytest.raises(ValueError, match=r"crm.update is handled by .*first already"):
        handlers.handler(target="crm", action="update")(named("second"))


def test_a_module_imported_again_replaces_its_handler(handlers: Handlers) -> None:
    handlers.handler(target="crm", action="update")(named("same"))
    again = named("same")
    handlers.handler(target="crm", action="update")(again)
    assert handlers.sending("crm", "update") is again


def test_a_query_handler_says_what_became_of_a_key(handlers: Handlers) -> None:
    @handlers.query_handler(target="crm", action="*")
    def never_seen(asked: Command) -> Outcome:
        return Outcome(kind=OutcomeKind.NOT_FOUND, message=asked.idempotency_key)

    adapter = PythonFunctionAdapter(target="crm", capabilities=CAN_ALL, handlers=handlers)
    outcome = adapter.query(command=command())
    assert (outcome.kind, outcome.message) == (OutcomeKind.NOT_FOUND, "a" * 64)


def test_a_query_without_a_handler_knows_nothing(handlers: Handlers) -> None:
    adapter = PythonFunctionAdapter(target="crm", capabilities=CAN_ALL, handlers=handlers)
    outcome = adapter.query(command=command())
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "no_status_query")


def test_a_query_handler_that_forgets_to_answer_is_not_read_as_never_happened(
    handlers: Handlers,
) -> None:
    handlers.query_handler(target="crm", action="update")(lambda _: None)
    adapter = PythonFunctionAdapter(target="crm", capabilities=CAN_ALL, handlers=handlers)
    assert adapter.query(command=command()).kind is OutcomeKind.UNKNOWN


def test_the_registry_builds_by_kind() -> None:
    adapter = build_adapter(kind="python", target="crm", settings={}, capabilities=CAN_ALL)
    assert isinstance(adapter, PythonFunctionAdapter)
    assert adapter.in_process
    assert {"http", "python"} <= set(known_kinds())


def test_an_unknown_kind_names_those_that_exist() -> None:
    with pytest.raises(AdapterMisconfigured, match="http, .*messaging, .*python") as raised:
        build_adapter(kind="adapters.http", target="crm", settings={}, capabilities=CAN_ALL)
    assert raised.value.code == "adapter.unknown_kind"


def test_settings_that_nobody_reads_are_refused() -> None:
    with pytest.raises(AdapterMisconfigured, match="base_url") as raised:
        build_adapter(
            kind="python", target="crm", settings={"base_url": "http://x"}, capabilities=CAN_ALL
        )
    assert raised.value.code == "adapter.bad_settings"


def test_a_kind_is_never_replaced_silently() -> None:
    def other(**_: object) -> PythonFunctionAdapter:
        return PythonFunctionAdapter(target="crm", capabilities=CAN_ALL)

    with pytest.raises(ValueError, match="'http' exists already"):
        register_adapter(kind="http", factory=other)
