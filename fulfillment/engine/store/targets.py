"""Target systems as the engine uses them: their rows, briefly remembered, and their adapters."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from pydantic import ValidationError

from adapters.callback_secrets import variable
from adapters.contract import Adapter, Capabilities, ReplySource
from adapters.registry import AdapterMisconfigured, build_adapter
from fulfillment.definitions.node_parts import Retry
from fulfillment.definitions.nodes import Node
from fulfillment.definitions.retry_specs import RetryPolicySpec
from fulfillment.definitions.target_rows import ANY_ACTION, RETRY_POLICIES
from fulfillment.engine.store.database import cursor
from fulfillment.engine.store.retry import RetryPolicy
from fulfillment.errors import (
    RetryPoliciesInvalid,
    TargetNameReserved,
    TargetNamesTooAlike,
    UnknownQueue,
)
from fulfillment.models import TargetSystem

_REMEMBERED_SECONDS = 1.0
_STANDARD = RetryPolicy()
_rows: dict[str, tuple[float, TargetSystem]] = {}
_adapters: dict[str, tuple[tuple[Any, ...], Adapter]] = {}
_lock = threading.Lock()
# Two names that are alike are both new to who looks before the other has committed.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('fulfillment.targets'))"


def get(name: str) -> TargetSystem:
    """The target's row, at most a second old, so that an operator's edit works live.

    Raises TargetSystem.DoesNotExist, and UnknownQueue when no worker consumes its queue.
    """
    remembered = _rows.get(name)
    if remembered is not None and remembered[0] > time.monotonic():
        return remembered[1]
    row = TargetSystem.objects.get(pk=name)
    _check_queue(row)
    _rows[name] = (time.monotonic() + _REMEMBERED_SECONDS, row)
    return row


def adapter_for(target: TargetSystem) -> Adapter:
    """One shared adapter per target, rebuilt when the row's settings change."""
    signature = (
        target.adapter,
        repr(sorted(_settings(target).items())),
        target.idempotent,
        target.status_query,
        target.asynchronous,
    )
    with _lock:
        known = _adapters.get(target.pk)
        if known is not None and known[0] == signature:
            return known[1]
        adapter = _build(target)
        _adapters[target.pk] = (signature, adapter)
        return adapter


def retry_policy(node: Node, *, row: TargetSystem | None = None) -> RetryPolicy:
    """The policy of a node's command: its workflow's own, or else what its target's row says.

    The row's policy for the action goes before that for "*"; the most exact one counts as a
    whole. A workflow's own is frozen with the plan, a target's works live. `row` spares the look
    for the target's row.
    """
    if node.retry is not None:
        return _frozen(node.retry)
    given = (row or get(node.target)).retry_policies
    document = given.get(node.action, given.get(ANY_ACTION))
    return _STANDARD if document is None else _of_row(json.dumps(document, sort_keys=True))


@lru_cache(maxsize=1024)
def _frozen(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=timedelta(seconds=retry.initial_interval_seconds),
        backoff_coefficient=retry.backoff_coefficient,
        maximum_interval=timedelta(seconds=retry.maximum_interval_seconds),
        maximum_attempts=retry.maximum_attempts,
        retryable=frozenset(retry.retryable),
        non_retryable=frozenset(retry.non_retryable),
        reconcile_first=retry.reconcile_first,
        escalate_after=retry.escalate_after,
    )


@lru_cache(maxsize=1024)
def _of_row(document: str) -> RetryPolicy:
    spec = RetryPolicySpec.model_validate_json(document)
    return RetryPolicy(
        initial_interval=spec.initial_interval,
        backoff_coefficient=spec.backoff_coefficient,
        maximum_interval=spec.maximum_interval,
        maximum_attempts=spec.maximum_attempts,
        retryable=frozenset(spec.retryable),
        non_retryable=frozenset(spec.non_retryable),
        reconcile_first=spec.reconcile_first,
        escalate_after=spec.escalate_after,
    )


def check(target: TargetSystem) -> None:
    """Raise when work for this row could not be sent.

    UnknownQueue, TargetNamesTooAlike, TargetNameReserved, AdapterMisconfigured, or
    RetryPoliciesInvalid.
    """
    _check_queue(target)
    check_name(target)
    _check_replies(target, _build(target))
    try:
        RETRY_POLICIES.validate_python(target.retry_policies)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise RetryPoliciesInvalid(
            f"The retry policies of {target.pk!r} can't be used: {place}: {first['msg']}. Write "
            'them by action, such as {"*": {"maximum_attempts": 8, "initial_interval": "PT2S"}}.'
        ) from error


def _check_queue(target: TargetSystem) -> None:
    if target.queue not in settings.OMS_TARGET_QUEUES:
        raise UnknownQueue(
            f"Target system {target.pk!r} uses the queue {target.queue!r}, which no worker "
            f"consumes. Add it to OMS_TARGET_QUEUES (now: {', '.join(settings.OMS_TARGET_QUEUES)}) "
            "and start a worker for it, or choose one of these queues for the target."
        )


def check_name(target: TargetSystem) -> None:
    """Raise TargetNamesTooAlike or TargetNameReserved when a new row may not be called so.

    A name can't be changed, so that rows which are there already can still be edited. In a
    transaction nobody else adds a row between this check and its end.
    """
    if TargetSystem.objects.filter(pk=target.pk).exists():
        return
    with cursor() as raw:
        raw.execute(_ONE_AT_A_TIME)
    secret = variable(target.pk)
    if secret.endswith("_FILE"):
        raise TargetNameReserved(
            f"Target system {target.pk!r} can't be called so: the secret of its callbacks would "
            f"be {secret}, which names the file that {secret.removesuffix('_FILE')} is read from. "
            "Choose a name that does not end in 'file' as a word of its own."
        )
    names = TargetSystem.objects.values_list("pk", flat=True)
    alike = sorted(name for name in names if variable(name) == secret)
    if alike:
        raise TargetNamesTooAlike(
            f"Target system {target.pk!r} would share the secret of its callbacks, {secret}, with "
            f"{alike[0]!r}: each could report in the name of the other. Choose a name that "
            "differs in more than capitals, dashes and underscores."
        )


def _check_replies(target: TargetSystem, adapter: Adapter) -> None:
    """The reply queue tells whose replies they are."""
    if not isinstance(adapter, ReplySource):
        return
    for other in TargetSystem.objects.filter(adapter=target.adapter).exclude(pk=target.pk):
        try:
            theirs = _build(other)
        except AdapterMisconfigured:
            continue
        if isinstance(theirs, ReplySource) and theirs.reply_address == adapter.reply_address:
            raise AdapterMisconfigured(
                f"Target system {target.pk!r} would share its reply queue with {other.pk!r}; "
                "choose another name for one of them."
            )


def _build(target: TargetSystem) -> Adapter:
    return build_adapter(
        kind=target.adapter,
        target=target.pk,
        settings=_settings(target),
        capabilities=Capabilities(
            idempotent=target.idempotent,
            status_query=target.status_query,
            asynchronous=target.asynchronous,
        ),
    )


def _settings(target: TargetSystem) -> Mapping[str, Any]:
    """The row's settings with `${sandbox_url}` filled in: where a sandbox listens is the
    surroundings' business, not the row's."""
    filled = {
        name: value.replace("${sandbox_url}", settings.OMS_SANDBOX_URL)
        if isinstance(value, str)
        else value
        for name, value in target.settings.items()
    }
    if target.adapter == "http":
        return {"pool_size": target.sender_slots, **filled}
    if target.adapter == "messaging":
        queues = [queue.name for queue in settings.CELERY_TASK_QUEUES]
        return {**filled, "own_broker": {"url": settings.CELERY_BROKER_URL, "queues": queues}}
    return filled


def forget() -> None:
    """Drop what is remembered (after a fork, or when tests change the database)."""
    _rows.clear()
    _adapters.clear()
