"""Target systems as the engine uses them: their rows, briefly remembered, and their adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from django.conf import settings

from adapters.contract import Adapter, Capabilities, ReplySource
from adapters.registry import AdapterMisconfigured, build_adapter
from fulfillment.errors import UnknownQueue
from fulfillment.models import TargetSystem

_REMEMBERED_SECONDS = 1.0
_rows: dict[str, tuple[float, TargetSystem]] = {}
_adapters: dict[str, tuple[tuple[Any, ...], Adapter]] = {}
_lock = threading.Lock()


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


def check(target: TargetSystem) -> None:
    """Raise UnknownQueue or AdapterMisconfigured when work for this row could not be sent."""
    _check_queue(target)
    _check_replies(target, _build(target))


def _check_queue(target: TargetSystem) -> None:
    if target.queue not in settings.OMS_TARGET_QUEUES:
        raise UnknownQueue(
            f"Target system {target.pk!r} uses the queue {target.queue!r}, which no worker "
            f"consumes. Add it to OMS_TARGET_QUEUES (now: {', '.join(settings.OMS_TARGET_QUEUES)}) "
            "and start a worker for it, or choose one of these queues for the target."
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
