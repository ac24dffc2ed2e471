"""Replies that come as messages: fetched from every target's reply queue into the inbox.

A reply is acknowledged after the commit that recorded it, so it may come twice; the inbox tells.
What can't be read as a report is parked there as unmatched, and what can't even be stored goes to
the dead letters: nothing stops those behind it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from functools import partial

from django.db import Error, connection

from adapters.contract import NotNow, Reply, ReplySource, Unrecordable
from adapters.registry import AdapterMisconfigured
from adapters.reports import NotAReport, outcome_of, report_of_message
from fulfillment.engine.dispatch import callbacks
from fulfillment.engine.store import failpoints, targets
from fulfillment.engine.store.database import DATABASE_TROUBLE, clean
from fulfillment.errors import ConcurrentChange
from fulfillment.models import TargetSystem

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
"""How soon a target system that is new, changed or gone is noticed."""
_PAUSE_SECONDS = 0.5
_TRIES = 5
"""How often the same reply may fail while the database is well."""
_KEPT_CHARACTERS = 10_000
_TRY_AGAIN = (*DATABASE_TROUBLE, ConcurrentChange)


def run(*, stop: threading.Event) -> None:
    """Fetch the replies of every target system that answers by messages, until `stop` is set.

    One thread per reply queue. Without such a target system it does nothing but look for one
    now and then. Returns when what had been fetched is recorded.
    """
    fetching: dict[str, _Fetching] = {}
    while not stop.is_set():
        try:
            _match(fetching, _sources())
        except Error as error:
            # Away, or not migrated yet: neither is a reason to end.
            connection.close()
            logger.warning(
                "target systems can't be read at present; fetching goes on as before",
                extra={"reason": type(error).__name__},
            )
        stop.wait(_LOOK_SECONDS)
    _match(fetching, {})


def _match(fetching: dict[str, _Fetching], wanted: dict[str, ReplySource]) -> None:
    """Let exactly the wanted sources be fetched from, one after the other where they changed."""
    gone = [
        name
        for name, one in fetching.items()
        if wanted.get(name) is not one.source or not one.alive
    ]
    for name in gone:
        fetching[name].stop()
    for name in gone:
        fetching.pop(name).join()
    for name in wanted.keys() - fetching.keys():
        fetching[name] = _Fetching(target=name, source=wanted[name])


def _sources() -> dict[str, ReplySource]:
    """Every target system whose replies are to be fetched, by name."""
    found: dict[str, ReplySource] = {}
    owners: dict[str, list[str]] = {}
    for row in TargetSystem.objects.filter(asynchronous=True):
        try:
            adapter = targets.adapter_for(row)
        except AdapterMisconfigured as error:
            logger.error("no replies are fetched", extra={"target": row.pk, "reason": str(error)})
            continue
        if isinstance(adapter, ReplySource):
            found[row.pk] = adapter
            owners.setdefault(adapter.reply_address, []).append(row.pk)
    for address, names in owners.items():
        if len(names) > 1:
            # Nobody could tell whose they are; they wait on the queue until that is mended.
            logger.error(
                "a reply queue belongs to one target system; choose another for the others",
                extra={"targets": ", ".join(names), "queue": address},
            )
            for name in names:
                del found[name]
    return found


class _Fetching:
    """The thread that fetches the replies of one target system."""

    def __init__(self, *, target: str, source: ReplySource) -> None:
        self.source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(target,), name=f"replies-{target}", daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self, target: str) -> None:
        try:
            self.source.receive_replies(
                record=partial(record, target=target, stop=self._stop), stop=self._stop
            )
        finally:
            connection.close()


def record(reply: Reply, *, target: str, stop: threading.Event) -> None:
    """Record one reply of `target`; returns when it is committed, in whatever disposition.

    A database that is away is waited for. Raises NotNow when `stop` is set meanwhile, and
    Unrecordable for what can't be stored.
    """
    failpoints.reach("replies.popped_before_recorded")
    tries = 0
    while True:
        try:
            _record(target, reply)
            break
        except _TRY_AGAIN as error:
            connection.close()
            logger.warning("reply not recorded yet", extra={"reason": type(error).__name__})
            if stop.wait(_PAUSE_SECONDS):
                raise NotNow from error
            tries += _database_is_well()
            if tries >= _TRIES:
                raise Unrecordable(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            logger.exception("reply can't be recorded", extra={"target": target})
            raise Unrecordable(f"{type(error).__name__}: {error}") from error
    failpoints.reach("replies.recorded_before_acked")


def _record(target: str, reply: Reply) -> None:
    try:
        report = report_of_message(
            body=reply.body, message_id=reply.message_id, correlation_id=reply.correlation_id
        )
    except NotAReport as fault:
        _park(target, reply, str(fault))
        return
    assert report.event_id is not None  # without one it would not be a report
    receipt = callbacks.receive(
        report=callbacks.Report(
            source=target,
            event_id=report.event_id,
            idempotency_key=report.idempotency_key,
            outcome=outcome_of(report=report),
            body=report.model_dump(mode="json"),
            attempt=report.attempt,
        )
    )
    logger.debug("reply recorded", extra={"disposition": receipt.disposition})


def _park(target: str, reply: Reply, reason: str) -> None:
    """Keep what nobody can read, with the reason, for a person; once."""
    logger.error("reply can't be read", extra={"target": target, "reason": reason})
    digest = hashlib.sha256(reply.body).hexdigest()
    callbacks.park(
        source=target,
        # Its sender's id may be that of a proper report, whose place it must not take.
        event_id=f"unreadable {digest}",
        idempotency_key=clean(reply.correlation_id, 200),
        body={
            "reason": clean(reason, 2000),
            "message_id": clean(reply.message_id, 200),
            "received": clean(reply.body.decode("utf-8", "replace"), _KEPT_CHARACTERS),
        },
    )


def _database_is_well() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return True
    except DATABASE_TROUBLE:
        connection.close()
        return False
