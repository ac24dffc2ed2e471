"""A mail server for tests: real SMTP on a port of its own, and it does as the test tells it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message


class Mailbox:
    """`answers` are replies to the end of a message, used up in order; then everything is taken.

    None as an answer takes the message and goes away without a word.
    """

    def __init__(self) -> None:
        self.answers: list[str | None] = []
        self.recipients: list[str] = []
        """Replies to RCPT TO, used up in order; then everybody is known."""
        self.taken: list[Message] = []
        self.port = 0


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        mailbox: Mailbox = self.server.mailbox  # type: ignore[attr-defined]
        self._say("220 a test")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self._say("354 go on")
                mailbox.taken.append(message_from_bytes(self._message()))
                answer = mailbox.answers.pop(0) if mailbox.answers else "250 taken"
                if answer is None:
                    return
                self._say(answer)
            elif verb == b"RCPT":
                self._say(mailbox.recipients.pop(0) if mailbox.recipients else "250 known")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 well")

    def _message(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        return b"".join(lines)

    def _say(self, words: str) -> None:
        self.wfile.write(words.encode() + b"\r\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Listens until the block ends."""
    made = Mailbox()
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.mailbox = made  # type: ignore[attr-defined]
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        server.shutdown()
        thread.join()
