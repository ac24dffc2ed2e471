"""Strict JSON: what could not be stored, or could be read in two ways, is a 400 at the door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from adapters.strict_json import NotStrictJson, loads
from fulfillment.definitions.wording import in_words
from oms.api.problems import Problem

MAXIMUM_BYTES = 5 * 1024 * 1024
M = TypeVar("M", bound=BaseModel)


class RawParser(BaseParser):
    """The bytes themselves, for a body whose signature is checked before it is read."""

    media_type = "*/*"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return read_body(stream, parser_context)


class StrictJsonParser(RawParser):
    """RFC 8259, without duplicate names, NUL, lone surrogates, infinities or abysmal nesting."""

    media_type = "application/json"

    def parse(self, *args: Any, **options: Any) -> Any:
        return parse_json(super().parse(*args, **options))


def json_body(request: Request) -> Any:
    """What `StrictJsonParser` read. Raises Problem 400, 411, 413 and 415."""
    _check_length(request)
    return request.data


def raw_body(request: Request) -> bytes:
    """What `RawParser` read. Raises Problem 400, 411 and 413."""
    _check_length(request)
    data: Any = request.data
    return data if isinstance(data, bytes) else b""


def _check_length(request: Request) -> None:
    """Without a length nothing would be read, and an empty body be taken for an empty object."""
    if request.META.get("CONTENT_LENGTH") not in (None, "", "0"):
        return
    if request.META.get("HTTP_TRANSFER_ENCODING"):
        raise Problem(
            status=411,
            code="request.length_required",
            title="The body's length is needed",
            detail="Send the body whole, with Content-Length, rather than in chunks.",
        )
    raise _not_json("the body is empty")


def read_body(stream: IO[Any], context: Mapping[str, Any] | None) -> bytes:
    """The body. Raises Problem 413 for more than MAXIMUM_BYTES, without reading on."""
    request = (context or {}).get("request")
    announced = str(request.META.get("CONTENT_LENGTH") or "0") if request is not None else "0"
    if not (announced.isdecimal() and int(announced) > MAXIMUM_BYTES):
        body: bytes = stream.read(MAXIMUM_BYTES + 1)
        if len(body) <= MAXIMUM_BYTES:
            return body
    raise Problem(
        status=413,
        code="request.too_large",
        title="The body is too large",
        detail=f"A body has at most {MAXIMUM_BYTES // 1024 // 1024} MiB. Send less at once: "
        "orders in several requests, a report without what nobody reads.",
    )


def parse_json(body: bytes) -> Any:
    """Raises Problem 400."""
    if not body.strip():
        raise _not_json("the body is empty")
    try:
        return loads(body)
    except NotStrictJson as error:
        raise _not_json(str(error)) from None


def _not_json(reason: str) -> Problem:
    return Problem(
        status=400,
        code="request.not_json",
        title="The body is not JSON that can be accepted",
        detail=f"It was refused because {reason}."
        if reason[:1].islower()
        else f"It was refused: {reason}.",
    )


def validated(model: type[M], data: Any, /) -> M:
    """`data` as an instance of `model`. Raises Problem 400 with every fault and its path."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Problem(
            status=400,
            code="request.invalid",
            title="The request is not well-formed",
            detail="Nothing was done. Correct everything in `errors` and send it again.",
            errors=[
                {
                    "path": _path(one["loc"]),
                    "code": f"shape.{one['type']}",
                    "message": in_words(one),
                }
                for one in error.errors(include_url=False)[:100]
            ],
        ) from None


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path[:500]
