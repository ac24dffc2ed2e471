"""Target systems that are reached over HTTP.

    POST {base_url}/{target}/{action}                  does something, once per Idempotency-Key
    GET  {base_url}/{target}/commands/{idempotency_key}  says what became of it

docs/adapters.md describes the protocol for whoever writes the other side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from urllib3.exceptions import HTTPError

from adapters import strict_json
from adapters.answers import Answer, outcome_of_query, outcome_of_send
from adapters.contract import Capabilities, Command, Outcome, OutcomeKind
from adapters.deadline import connection_pool, total_deadline
from adapters.progress import line_of
from adapters.settings import AdapterMisconfigured, refuse_unknown_settings

_DEFAULT_POOL_SIZE = 16
_DEFAULT_MAX_RESPONSE_BYTES = 1024 * 1024
_SETTINGS = frozenset({"base_url", "headers", "pool_size", "max_response_bytes", "unsafe_statuses"})
_OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "accept-encoding"),
        *("content-type", "idempotency-key", "x-correlation-id", "x-order-reference"),
        *("x-attempt", "x-callback-url", "x-resume-from"),
    }
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class HttpAdapter:
    """One target system behind one base URL; keeps connections open, keeps nothing else.

    Settings: `base_url` (http or https, required); `headers` sent with every request;
    `pool_size`, connections kept open (16); `max_response_bytes` (1 MiB); `unsafe_statuses`,
    4xx and 503 that this target sends although it may have acted, so they become UNKNOWN.
    Raises AdapterMisconfigured.
    """

    in_process = False

    def __init__(
        self, *, target: str, settings: Mapping[str, Any], capabilities: Capabilities
    ) -> None:
        refuse_unknown_settings(target=target, settings=settings, known=_SETTINGS)
        self._target = target
        self.capabilities = capabilities
        self._headers = _headers(target, settings)
        self._max_response_bytes = _whole_number(
            target, settings, "max_response_bytes", _DEFAULT_MAX_RESPONSE_BYTES
        )
        self._unsafe_statuses = _statuses(target, settings)
        scheme, host, port, self._path = _base_url(target, settings)
        self._pool = connection_pool(
            scheme=scheme,
            host=host,
            port=port,
            size=_whole_number(target, settings, "pool_size", _DEFAULT_POOL_SIZE),
        )

    def send(self, *, command: Command) -> Outcome:
        try:
            body = strict_json.dumps(command.payload)
        except strict_json.NotStrictJson as error:
            return Outcome(
                kind=OutcomeKind.FAILED,
                code="payload_not_json",
                message=f"The payload can't be written as JSON: {error}. Nothing was sent; "
                "correct the task's input.",
            )
        answer = self._call(
            "POST", f"/{_segment(command.target)}/{_segment(command.action)}", command, body
        )
        if isinstance(answer, Outcome):
            return answer
        return outcome_of_send(
            answer=answer, unsafe_statuses=self._unsafe_statuses, now=datetime.now(UTC)
        )

    def query(self, *, command: Command) -> Outcome:
        if not self.capabilities.status_query:
            return Outcome(
                kind=OutcomeKind.UNKNOWN,
                code="no_status_query",
                message=f"{self._target} is declared to have no status query, so it was not asked.",
            )
        path = f"/{_segment(command.target)}/commands/{_segment(command.idempotency_key)}"
        answer = self._call("GET", path, command, None)
        if isinstance(answer, Outcome):
            # Whatever befell the query, it says nothing about the command.
            return Outcome(kind=OutcomeKind.UNKNOWN, code=answer.code, message=answer.message)
        return outcome_of_query(answer=answer, now=datetime.now(UTC))

    def _call(
        self, method: str, path: str, command: Command, body: bytes | None
    ) -> Answer | Outcome:
        """The complete answer, or the outcome when there is none."""
        seconds = command.deadline.total_seconds()
        with total_deadline(seconds=seconds) as call:
            try:
                answer = self._exchange(method, self._path + path, command, body)
            except (HTTPError, OSError) as error:
                if not call.sent:
                    return Outcome(
                        kind=OutcomeKind.FAILED,
                        code="connect_failed",
                        message=f"No connection to {self._target} at {self._pool.host}: "
                        f"{_reason(error)}. Nothing was sent.",
                        retryable=True,
                    )
                if not call.is_over():
                    return _unknown(
                        "connection_lost",
                        f"The connection broke after the request was sent: {_reason(error)}.",
                    )
                return _unknown("timeout", f"No complete answer within {seconds:g} s.")
        if answer is None:
            return _unknown(
                "response_too_large",
                f"The answer is larger than {self._max_response_bytes} bytes; raise "
                "max_response_bytes in the target's settings if that is right.",
            )
        return answer

    def _exchange(
        self, method: str, path: str, command: Command, body: bytes | None
    ) -> Answer | None:
        """None when the answer is larger than allowed."""
        response = self._pool.urlopen(
            method,
            path,
            body=body,
            headers=self._request_headers(command, with_body=body is not None),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        complete = False
        try:
            data = bytearray()
            # To the very end: only there does urllib3 notice that bytes are missing. Identity was
            # asked for; what is compressed anyway stays as it is, so it can't swell.
            while part := response.read(self._max_response_bytes + 1, decode_content=False):
                data += part
                if len(data) > self._max_response_bytes:
                    return None
            complete = True
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Answer(status=response.status, headers=headers, body=bytes(data))
        finally:
            if not complete:
                response.close()
            response.release_conn()

    def _request_headers(self, command: Command, *, with_body: bool) -> dict[str, str]:
        headers = {
            **self._headers,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Idempotency-Key": _header(command.idempotency_key),
            "X-Correlation-Id": _header(command.correlation_id),
            "X-Order-Reference": _header(command.order_reference),
            "X-Attempt": str(command.attempt),
        }
        if not with_body:
            headers["Cache-Control"] = "no-cache"
            return headers
        headers["Content-Type"] = "application/json"
        if command.callback_url:
            headers["X-Callback-Url"] = _header(command.callback_url)
        if command.resume_from is not None:
            headers["X-Resume-From"] = _header(line_of(command.resume_from))
        return headers


def _unknown(code: str, message: str) -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, message=message)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")[:300]


def _segment(text: str) -> str:
    # A dot segment would be resolved away by any client or proxy.
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")


def _header(text: str) -> str:
    """Percent-encoded where it isn't printable ASCII (a header can't carry more)."""
    return quote(text, safe=_HEADER_SAFE)


def _base_url(target: str, settings: Mapping[str, Any]) -> tuple[str, str, int | None, str]:
    url = settings.get("base_url")
    problem = AdapterMisconfigured(
        f"Target system {target!r} needs base_url in its settings, as http://host:port/path or "
        f"https://…, without user, query or fragment; it is {url!r}."
    )
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise problem
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise problem
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _headers(target: str, settings: Mapping[str, Any]) -> dict[str, str]:
    headers = settings.get("headers", {})
    if not isinstance(headers, Mapping) or not all(
        isinstance(name, str)
        and _HEADER_NAME.fullmatch(name)
        and isinstance(value, str)
        and value.isascii()
        and (value.isprintable() or not value)
        for name, value in headers.items()
    ):
        raise AdapterMisconfigured(
            f"Target system {target!r}: headers must be an object of header names and printable "
            "ASCII texts."
        )
    taken = sorted(name for name in headers if name.lower() in _OURS)
    if taken:
        raise AdapterMisconfigured(
            f"Target system {target!r}: the adapter itself sets {', '.join(taken)}; remove it "
            "from headers."
        )
    return dict(headers)


def _whole_number(target: str, settings: Mapping[str, Any], name: str, default: int) -> int:
    value = settings.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AdapterMisconfigured(
            f"Target system {target!r}: {name} must be a whole number from 1, not {value!r}."
        )
    return value


def _statuses(target: str, settings: Mapping[str, Any]) -> frozenset[int]:
    values = settings.get("unsafe_statuses", [])
    if not isinstance(values, list) or not all(
        isinstance(value, int) and 300 <= value <= 599 for value in values
    ):
        raise AdapterMisconfigured(
            f"Target system {target!r}: unsafe_statuses must be a list of HTTP statuses from 300 "
            f"to 599, not {values!r}."
        )
    return frozenset(values)
