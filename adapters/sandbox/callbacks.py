"""Reporting what an asynchronous command came to: signed, and repeated until it is heard.

A callback is in the ledger before its command is answered and leaves it when the receiver has
said 2xx, so it survives every crash and may arrive more than once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from adapters.callback_secrets import CallbackSecrets, variable
from adapters.sandbox.bookkeeping import Callback, note_callback
from adapters.sandbox.ledger import Ledger
from adapters.signatures import sign

logger = logging.getLogger("sandbox")

_SENDERS = 16
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 15.0
_TIMEOUT_SECONDS = 5.0
_TRY_AGAIN = frozenset({408, 425, 429})
QUEUE = "queue:"
"""Before the name of a reply queue, where others have the scheme of a URL."""
GIVEN_UP = -1
"""In place of the copies left: the receiver refused it."""


def secret_of(name: str) -> str:
    """The variable, or else the content of the file that `<name>_FILE` names.

    Raises OSError when that can't be read.
    """
    path = os.environ.get(f"{name}_FILE")
    return os.environ.get(name) or (Path(path).read_text().strip() if path else "")


def origin_of(url: str) -> str | None:
    """`scheme://host:port` of a web address; None when it isn't one."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def is_allowed(*, url: str, origins: Collection[str]) -> bool:
    """Whether callbacks may go there: one of `origins`, or this machine when none are named."""
    origin = origin_of(url)
    if origin is None or origins:
        return origin in origins
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Dispatcher:
    """Sends callbacks when they are due, each until it is delivered or refused."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        secrets: CallbackSecrets,
        by_message: Callable[[Callback], tuple[str, int]] | None = None,
    ) -> None:
        """`by_message` sends those whose address is a queue rather than a URL."""
        self._by_message = by_message
        self._ledger = ledger
        self._secrets = secrets
        self._http = urllib3.PoolManager(maxsize=_SENDERS, num_pools=20)
        self._senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="callback")
        self._waiting: set[asyncio.Task[None]] = set()

    def add(self, callback: Callback) -> None:
        task = asyncio.create_task(self._see_through(callback))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def attempt(self, callback: Callback) -> Callback:
        """Send it once; what is then left to do."""
        answer, status = await asyncio.get_running_loop().run_in_executor(
            self._senders, self._send, callback
        )
        if 200 <= status < 300:
            after = replace(callback, copies_left=callback.copies_left - 1)
        elif 300 <= status < 500 and status not in _TRY_AGAIN:
            after = replace(callback, copies_left=GIVEN_UP)
            logger.warning(
                "%s refused a callback of %s with %s; it is not repeated. Check the secret (%s) "
                "and the receiver's log.",
                *(callback.url, callback.target, status, variable(callback.target)),
            )
        else:
            pause = min(
                _FIRST_PAUSE_SECONDS * 2 ** min(callback.attempts, 16), _LONGEST_PAUSE_SECONDS
            )
            after = replace(callback, due_at=time.time() + pause)
        after = replace(after, attempts=callback.attempts + 1)
        await self._ledger.run(partial(note_callback, callback=after, answer=answer))
        return after

    def forget(self) -> None:
        """Drop everything that is waiting; what is in the ledger stays there."""
        for task in self._waiting:
            task.cancel()

    async def close(self) -> None:
        self.forget()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        await asyncio.to_thread(self._senders.shutdown)

    async def _see_through(self, callback: Callback) -> None:
        while callback.copies_left > 0:
            await asyncio.sleep(max(0.0, callback.due_at - time.time()))
            callback = await self.attempt(callback)

    def _send(self, callback: Callback) -> tuple[str, int]:
        """What the receiver said, and its HTTP status (0 when it said nothing)."""
        if callback.url.startswith(QUEUE):
            return ("no broker", 0) if self._by_message is None else self._by_message(callback)
        body = callback.body.encode()
        try:
            response = self._http.request(
                "POST",
                callback.url,
                body=body,
                headers={
                    "Content-Type": "application/json",
                    **sign(
                        message_id=json.loads(body)["event_id"],
                        at_seconds=int(time.time()),
                        body=body,
                        secrets=self._secrets.of(callback.target),
                    ),
                },
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(_TIMEOUT_SECONDS),
            )
        except urllib3.exceptions.HTTPError as error:
            return f"{type(error).__name__}: {error}"[:300], 0
        return str(response.status), response.status
