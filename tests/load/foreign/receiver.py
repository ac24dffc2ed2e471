"""A subscriber that takes every event and does nothing with it: `python receiver.py PORT`.

Answers 204, on connections that stay open; asked by a line on its input, it says what has come.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection; what has come is counted over all of them."""

    received = 0
    ids: set[bytes] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while True:
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                return
            lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
            headers = {name.lower(): value.strip() for name, _, value in lines}
            length = int(headers.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self._unread = rest[length:]
            Receiver.received += 1
            Receiver.ids.add(headers[b"webhook-id"])
            self._transport.write(_ANSWER)


def _answer_questions() -> None:
    for _ in sys.stdin:
        _say({"received": Receiver.received, "events": len(Receiver.ids)})


def _say(words: object) -> None:
    print(json.dumps(words), flush=True)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", int(sys.argv[1]))
    threading.Thread(target=_answer_questions, daemon=True).start()
    _say({"ready": True})
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
