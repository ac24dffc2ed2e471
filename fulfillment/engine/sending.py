"""The drain: claim, send, settle, until a target has nothing left to claim.

One drain per target and process. It claims as many commands as it has free sender slots, hands
them to sender threads, and settles in one unit every outcome that has arrived meanwhile, so
under backlog the batches grow by themselves and an idle system waits for nothing. A slow call
holds one slot, never the batch it was claimed with.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from adapters.contract import Adapter, Outcome, OutcomeKind
from fulfillment.engine import claiming, failpoints, outcomes, settlement, targets
from fulfillment.engine.claiming import Claim
from fulfillment.engine.database import DATABASE_TROUBLE, pin_plans
from fulfillment.models import Purpose, TargetSystem

logger = logging.getLogger(__name__)

_POKE = None
_INLINE_SECONDS = 0.5
"""How long in-process handlers may run before what they did is settled."""

Result = tuple[Claim, Outcome]


class Drain:
    """The sending side of one target in this process."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._running = threading.Lock()
        self._arrived: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._senders: ThreadPoolExecutor | None = None
        self._slots = 0
        self._in_flight = 0
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def run(self) -> int:
        """Work until nothing is claimable. Returns how many commands were settled here.

        When the target is being drained already, that drain is told to look again and this
        call returns at once.
        """
        # The poke comes first: a drain that ends in between leaves it for whoever locks next.
        self._arrived.put(_POKE)
        settled = 0
        while not self._arrived.empty():
            if not self._running.acquire(blocking=False):
                return settled
            try:
                settled += self._work()
            finally:
                self._running.release()
        return settled

    def _work(self) -> int:
        settled = 0
        while True:
            results, poked = self._take(wait=self._in_flight > 0)
            self._in_flight -= len(results)
            if results:
                self._settle(results)
                settled += len(results)
            elif not poked and self._in_flight == 0:
                return settled
            try:
                self._claim_and_send()
            except Exception:
                if self._in_flight == 0:
                    raise
                # What is on the wire must still be settled by this drain.
                logger.exception("claim failed", extra={"target": self._target})

    def _take(self, *, wait: bool) -> tuple[list[Result], bool]:
        """Everything that has arrived; with `wait`, at least one thing."""
        results: list[Result] = []
        poked = False
        block = wait
        while True:
            try:
                item = self._arrived.get(block=block)
            except queue.Empty:
                return results, poked
            block = False
            if item is _POKE:
                poked = True
            else:
                results.append(item)

    def _claim_and_send(self) -> None:
        if _stopping.is_set():
            return
        target = targets.get(self._target)
        free = target.sender_slots - self._in_flight
        if free <= 0:
            return
        adapter = targets.adapter_for(target)
        pin_plans()
        failpoints.reach("sending.before_claim")
        claims = claiming.claim(
            target=target, limit=free, worker=self._worker, alone=self._in_flight == 0
        )
        if adapter.in_process:
            self._run_inline(adapter, claims)
            return
        senders = self._sender_threads(target)
        for claim in claims:
            # What can't be handed to a thread is not sent: its lease ends, and it is asked for.
            senders.submit(self._send, adapter, claim)
            self._in_flight += 1

    def _run_inline(self, adapter: Adapter, claims: list[Claim]) -> None:
        results: list[Result] = []
        since = time.monotonic()
        for claim in claims:
            results.append((claim, call(adapter=adapter, claim=claim)))
            if time.monotonic() - since > _INLINE_SECONDS:
                self._settle(results)
                results, since = [], time.monotonic()
        for result in results:
            self._arrived.put(result)
            self._in_flight += 1

    def _send(self, adapter: Adapter, claim: Claim) -> None:
        self._arrived.put((claim, call(adapter=adapter, claim=claim)))

    def _settle(self, results: list[Result]) -> None:
        """What is known is worth waiting for a database that is away, while the leases last."""
        until = max(
            claim.send_before + claim.command.deadline.total_seconds() for claim, _ in results
        )
        while True:
            try:
                self._settle_now(results)
                return
            except DATABASE_TROUBLE:
                if time.monotonic() >= until:
                    self._leave(results)
                    return
            except Exception:
                self._leave(results)
                return

    def _leave(self, results: list[Result]) -> None:
        # The leases stay open: when they expire the outcomes are reconciled by key.
        logger.exception(
            "outcomes not settled; they will be reconciled when their leases expire",
            extra={"target": self._target, "commands": len(results)},
        )

    def _settle_now(self, results: list[Result]) -> None:
        settlement.settle(
            results=[
                outcomes.Result(
                    task_id=claim.task_id,
                    plan_id=claim.plan_id,
                    fulfillment_id=claim.fulfillment_id,
                    node=claim.node,
                    attempt_id=claim.attempt_id,
                    attempt_number=claim.command.attempt,
                    purpose=claim.purpose,
                    outcome=outcome,
                )
                for claim, outcome in results
            ],
            actor=f"worker {self._worker}",
            drained=self._target,
            called=self._target,
        )

    def _sender_threads(self, target: TargetSystem) -> ThreadPoolExecutor:
        if self._senders is None or self._slots != target.sender_slots:
            if self._senders is not None:
                self._senders.shutdown(wait=False)
            self._slots = target.sender_slots
            self._senders = ThreadPoolExecutor(self._slots, thread_name_prefix=self._target)
        return self._senders


def call(*, adapter: Adapter, claim: Claim) -> Outcome:
    """Send or query, once; an adapter that raises leaves the outcome unknown."""
    if claim.send_before < time.monotonic():
        # The process was stopped since the claim; somebody else may own the task by now.
        return outcomes.NOT_SENT if claim.purpose is Purpose.SEND else outcomes.NOT_ASKED
    try:
        failpoints.reach("sending.before_send")
        if claim.purpose is Purpose.SEND:
            outcome = adapter.send(command=claim.command)
        else:
            outcome = adapter.query(command=claim.command)
            failpoints.reach("sending.after_query")
        failpoints.reach("sending.after_send")
        return outcome
    except Exception as error:
        logger.exception("adapter raised", extra={"target": claim.command.target})
        return Outcome(
            kind=OutcomeKind.UNKNOWN,
            code="adapter_raised",
            message=f"The adapter raised {type(error).__name__}: {error}",
        )


_stopping = threading.Event()
_drains: dict[str, Drain] = {}
_drains_lock = threading.Lock()


def drain(*, target: str) -> int:
    """Work off everything that is claimable for `target`; returns the commands settled here."""
    with _drains_lock:
        mine = _drains.setdefault(target, Drain(target))
    return mine.run()


def stop() -> None:
    """Claim nothing more in this process; what is on the wire is still settled."""
    _stopping.set()
