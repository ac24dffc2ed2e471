"""The drain: claim, send, settle, until a target has nothing left to claim.

One drain per target and process. It claims as many commands as it has free sender slots, hands
them to sender threads, and settles in one unit every outcome that has arrived meanwhile, so
under backlog the batches grow by themselves and an idle system waits for nothing. A slow call
holds one slot, never the batch it was claimed with.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from adapters.contract import Adapter, Outcome, OutcomeKind
from fulfillment.engine.dispatch import claiming, turning
from fulfillment.engine.dispatch.claiming import Claim, Room
from fulfillment.engine.dispatch.slots import Result, Slots
from fulfillment.engine.plans import settlement
from fulfillment.engine.store import failpoints, targets
from fulfillment.engine.store.database import DATABASE_TROUBLE
from fulfillment.engine.store.one_loop import OneLoop
from fulfillment.engine.tasks import outcomes
from fulfillment.models import Purpose, TargetSystem

logger = logging.getLogger(__name__)

_INLINE_SECONDS = 0.5
"""How long in-process handlers may run before what they did is settled."""


class Drain:
    """The sending side of one target in this process."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._loop = OneLoop[Result](
            name=target, begin=self._claim_and_send, end=self._settle_and_claim
        )
        self._slots = Slots(name=target, call=_call, arrived=self._loop.arrived)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._has_claimed = False
        """Whether there were commands for free slots when the last results were settled."""

    def run(self) -> int:
        """Work until nothing is claimable. Returns how many commands were settled here.

        When the target is being drained already, that drain is told to look again and this
        call returns at once.
        """
        return self._loop.run()

    def _claim_and_send(self) -> None:
        if self._has_claimed:
            self._has_claimed = False
            return
        if _stopping.is_set():
            return
        target = targets.get(self._target)
        adapter = targets.adapter_for(target)
        room = self._room(target, adapter)
        if not room.calls:
            return
        failpoints.reach("sending.before_claim")
        claims = claiming.claim(
            target=target, room=room, worker=self._worker, alone=self._loop.under_way == 0
        )
        self._begin(target, adapter, claims)

    def _room(self, target: TargetSystem, adapter: Adapter) -> Room:
        if adapter.in_process:
            return Room(calls=max(0, target.sender_slots - self._loop.under_way))
        return self._slots.room(of=target.sender_slots)

    def _begin(self, target: TargetSystem, adapter: Adapter, claims: list[Claim]) -> None:
        if adapter.in_process:
            self._run_inline(adapter, claims)
            return
        for claim in claims:
            self._slots.begin(adapter, claim, of=target.sender_slots)
            self._loop.begun()

    def _run_inline(self, adapter: Adapter, claims: list[Claim]) -> None:
        results: list[Result] = []
        since = time.monotonic()
        for claim in claims:
            results.append((claim, call(adapter=adapter, claim=claim)))
            if time.monotonic() - since > _INLINE_SECONDS:
                self._settle(results)
                results, since = [], time.monotonic()
        for result in results:
            self._loop.arrived(result)
            self._loop.begun()

    def _settle_and_claim(self, results: list[Result]) -> int:
        """In one unit if that can be; what keeps it from it is found out one by one."""
        self._slots.ended(claim for claim, _ in results)
        if not self._turn(results):
            self._settle(results)
        return len(results)

    def _turn(self, results: list[Result]) -> bool:
        if _stopping.is_set():
            return False
        try:
            target = targets.get(self._target)
            adapter = targets.adapter_for(target)
            room = self._room(target, adapter)
            if not room.all or not turning.can_turn(target=target, adapter=adapter):
                return False

            def send(claims: list[Claim]) -> None:
                self._has_claimed = bool(claims)
                self._begin(target, adapter, claims)

            turning.turn(
                target=target,
                results=_as_outcomes(results),
                room=room,
                worker=self._worker,
                alone=self._loop.under_way == 0,
                send=send,
            )
            return True
        except Exception:
            logger.warning(
                "settled without the next claim", exc_info=True, extra={"target": self._target}
            )
            return False

    def _settle(self, results: list[Result]) -> None:
        """What is known is worth waiting for a database that is away, while the leases last."""
        until = max(
            claim.send_before + claim.command.deadline.total_seconds() for claim, _ in results
        )
        while True:
            try:
                self._settle_now(results)
                break
            except DATABASE_TROUBLE:
                if time.monotonic() >= until:
                    self._leave(results)
                    break
            except Exception:
                self._leave(results)
                break

    def _leave(self, results: list[Result]) -> None:
        # The leases stay open: when they expire the outcomes are reconciled by key.
        logger.exception(
            "outcomes not settled; they will be reconciled when their leases expire",
            extra={"target": self._target, "commands": len(results)},
        )

    def _settle_now(self, results: list[Result]) -> None:
        settlement.settle(
            results=_as_outcomes(results),
            actor=f"worker {self._worker}",
            drained=self._target,
            called=self._target,
        )

    def close(self) -> None:
        self._slots.close()


def _as_outcomes(results: list[Result]) -> list[outcomes.Result]:
    return [
        outcomes.Result(
            task_id=claim.task_id,
            plan_id=claim.plan_id,
            fulfillment_id=claim.fulfillment_id,
            node=claim.node,
            element=claim.element,
            command_id=claim.command.command_id,
            attempt_id=claim.attempt_id,
            attempt_number=claim.command.attempt,
            purpose=claim.purpose,
            outcome=outcome,
        )
        for claim, outcome in results
    ]


def _call(adapter: Adapter, claim: Claim) -> Outcome:
    return call(adapter=adapter, claim=claim)


def call(*, adapter: Adapter, claim: Claim) -> Outcome:
    """Send or query, once; an adapter that raises leaves the outcome unknown."""
    if claim.send_before < time.monotonic():
        # The process was stopped since the claim; somebody else may own the task by now.
        return outcomes.not_begun(claim.purpose)
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
    for one in tuple(_drains.values()):
        one.close()
