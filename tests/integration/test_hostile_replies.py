"""A hostile reply harms nobody behind it."""

from __future__ import annotations

import base64
import gzip
import json
import threading
from typing import Any

import celery
import pytest

from adapters.broker import Broker
from adapters.contract import Reply
from adapters.reply_queue import ReplyQueue
from tests.waiting import until

_GOOD = b'{"good": true}'


def _envelope(
    *, body: bytes = b"{}", headers: dict[str, Any] | None = None, **properties: Any
) -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers or {},
            "properties": {"body_encoding": "base64", "delivery_tag": "a tag", **properties},
        }
    ).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        _envelope(headers={"compression": "application/x-gzip"}),
        _envelope(headers={"compression": "no such"}),
        _envelope(headers={"compression": []}),
        _envelope(body=gzip.compress(b" " * 10**7), headers={"compression": "application/x-gzip"}),
        _envelope(body_encoding="rot13"),
        _envelope(body_encoding=[1]),
        _envelope(body_encoding=None),
        _envelope(message_id=5, correlation_id={}, priority="high"),
        b"",
        b"\xff\xfe\x00",
    ],
)
def test_what_can_not_be_unpacked_hides_no_reply_behind_it(redis_url: str, hostile: bytes) -> None:
    queue = ReplyQueue(
        broker=Broker(url=redis_url, timeout_seconds=2), name="hostile", redelivery_seconds=30
    )
    with celery.current_app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.lpush("hostile", hostile)
        client.lpush("hostile", _GOOD)
        got: list[Reply] = []
        stop = threading.Event()
        thread = threading.Thread(target=queue.receive, kwargs={"record": got.append, "stop": stop})
        thread.start()
        try:
            until(lambda: any(reply.body == _GOOD for reply in got), seconds=5)
            until(lambda: len(got) + client.llen("hostile.dead") == 2, seconds=5)
            assert all(len(reply.body) < 10**6 for reply in got)
        finally:
            stop.set()
            thread.join()


def test_a_tag_that_two_replies_share_acknowledges_one_of_them(redis_url: str) -> None:
    queue = ReplyQueue(
        broker=Broker(url=redis_url, timeout_seconds=2), name="hostile", redelivery_seconds=30
    )
    with celery.current_app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.lpush("hostile", _envelope(body=b"1"), _envelope(body=b"2"))
        left: list[int] = []
        stop = threading.Event()

        def record(reply: Reply) -> None:
            if reply.body == b"2":
                left.append(client.hlen("hostile.unacked") + client.llen("hostile"))

        thread = threading.Thread(target=queue.receive, kwargs={"record": record, "stop": stop})
        thread.start()
        try:
            until(lambda: bool(left), seconds=5)
        finally:
            stop.set()
            thread.join()
    assert left == [1]  # What is being recorded is still the broker's.
