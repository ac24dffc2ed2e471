"""YAML text -> plain JSON values with the line of every path, and every fault on the way.

Stricter than a YAML loader: no anchors, aliases, tags or merge keys, no duplicate keys, and
no plain word that YAML 1.1 and 1.2 read differently (`no`, `on`, `0123`, `12:30`, dates).
The parser's events are read with a stack of our own, so nesting can't exhaust Python's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from fulfillment.errors import DefinitionInvalid, Fault

MAXIMUM_BYTES = 256 * 1024
MAXIMUM_DEPTH = 24

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][-+][0-9]{1,3})?")
_NUMBER_IN_YAML_1_2 = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+"
)
_PREFIX = "tag:yaml.org,2002:"
_YAML_1_1 = yaml.resolver.Resolver()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    data: Any
    lines: dict[str, int]
    """Line, from 1, of each dotted path (`tasks.a.depends_on[0].success`)."""
    faults: list[Fault]


def join_path(parent: str, key: str | int) -> str:
    if isinstance(key, int):
        return f"{parent}[{key}]"
    return f"{parent}.{key}" if parent else key


def too_large(*, file: str) -> Fault:
    message = f"A template has at most {MAXIMUM_BYTES // 1024} KiB; split the workflow."
    return Fault(code="yaml.too_large", message=message, file=file)


def read_source(*, text: str, file: str) -> Source:
    """Raises DefinitionInvalid when the text can't be read to its end; lesser faults are listed."""
    if len(text.encode(errors="surrogatepass")) > MAXIMUM_BYTES:
        raise DefinitionInvalid([too_large(file=file)])
    reader = _Reader(file=file)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            reader.take(event)
    except yaml.YAMLError as error:
        reader.faults.append(_syntax_fault(error, text=text, file=file))
        raise DefinitionInvalid(reader.faults) from error
    if reader.documents != 1:
        reader.fault("documents", "", None, f"One document expected, found {reader.documents}.")
        raise DefinitionInvalid(reader.faults)
    return Source(data=reader.root, lines=reader.lines, faults=reader.faults)


@dataclass(slots=True)
class _Frame:
    container: dict[str, Any] | list[Any]
    path: str
    key: str | None = None
    """The key whose value comes next; None when a key comes next."""
    skip: bool = False
    """The value that comes next belongs to a refused key."""


@dataclass(slots=True)
class _Reader:
    file: str
    root: Any = None
    documents: int = 0
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    stack: list[_Frame] = field(default_factory=list)

    def fault(self, code: str, path: str, line: int | None, message: str) -> None:
        self.faults.append(
            Fault(code=f"yaml.{code}", message=message, path=path, file=self.file, line=line)
        )

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            message = f"Aliases (*{event.anchor}) are not supported; write the value out."
            self.fault("alias", self._next_path(), _line(event), message)
            self._place(None, event)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        path, line = self._next_path(), _line(event)
        self._refuse_decorations(event, path)
        if "\0" in event.value or any("\ud800" <= c <= "\udfff" for c in event.value):
            self.fault("character", path, line, "NUL and lone surrogates are not text.")
            event.value = event.value.replace("\0", "").encode(errors="replace").decode()
        value = event.value if event.style else self._plain(event.value, path, line)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self._key(frame, value, event)
        else:
            self._place(value, event)

    def _plain(self, text: str, path: str, line: int) -> Any:
        value: Any = text
        if text in ("", "~", "null"):
            value, kind = None, "null"
        elif text in ("true", "false"):
            value, kind = text == "true", "bool"
        elif _INTEGER.fullmatch(text):
            value, kind = int(text), "int"
        elif _FLOAT.fullmatch(text) and math.isfinite(float(text)):
            value, kind = float(text), "float"
        else:
            kind = "str"
        older = _YAML_1_1.resolve(yaml.ScalarNode, text, (True, False))
        if older != _PREFIX + kind or (kind == "str" and _NUMBER_IN_YAML_1_2.fullmatch(text)):
            message = (
                f"{text!r} without quotes is read differently by different YAML readers. Quote "
                "it when text is meant; otherwise write true, false, null or a decimal number."
            )
            self.fault("ambiguous", path, line, message)
        return value

    def _key(self, frame: _Frame, key: Any, event: yaml.ScalarEvent) -> None:
        assert isinstance(frame.container, dict)
        line = _line(event)
        frame.skip = False
        if not isinstance(key, str):
            self.fault("key", frame.path, line, f"The key {event.value!r} is not text; quote it.")
            frame.key, frame.skip = event.value, True
            return
        path = join_path(frame.path, key)
        frame.key = key
        if key in frame.container:
            first = self.lines.get(path)
            self.fault("duplicate_key", path, line, f"{key!r} stands here twice (line {first}).")
            frame.skip = True
            return
        self.lines[path] = line

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        path, line = self._next_path(), _line(event)
        self._refuse_decorations(event, path)
        frame = self.stack[-1] if self.stack else None
        if frame is not None and isinstance(frame.container, dict) and frame.key is None:
            self.fault("key", path, line, "A key must be text, not a list or a mapping.")
            raise DefinitionInvalid(self.faults)
        if len(self.stack) >= MAXIMUM_DEPTH:
            self.fault("depth", path, line, f"Nested more than {MAXIMUM_DEPTH} levels deep.")
            raise DefinitionInvalid(self.faults)
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._place(container, event)
        self.stack.append(_Frame(container=container, path=path))

    def _place(self, value: Any, event: yaml.Event) -> None:
        if not self.stack:
            if self.documents == 1:
                self.root = value
                self.lines[""] = _line(event)
            return
        frame = self.stack[-1]
        if isinstance(frame.container, list):
            self.lines[join_path(frame.path, len(frame.container))] = _line(event)
            frame.container.append(value)
            return
        if frame.key is None:  # an alias as a key
            frame.key, frame.skip = "", True
            return
        if not frame.skip:
            frame.container[frame.key] = value
        frame.key = None

    def _next_path(self) -> str:
        if not self.stack:
            return ""
        frame = self.stack[-1]
        if isinstance(frame.container, list):
            return join_path(frame.path, len(frame.container))
        return frame.path if frame.key is None else join_path(frame.path, frame.key)

    def _refuse_decorations(
        self, event: yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent, path: str
    ) -> None:
        if event.anchor is not None:
            message = f"Anchors (&{event.anchor}) are not supported; remove it."
            self.fault("anchor", path, _line(event), message)
        if event.tag is not None:
            message = f"Tags ({event.tag}) are not supported; remove it."
            self.fault("tag", path, _line(event), message)


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark is not None else 1


def _syntax_fault(error: yaml.YAMLError, *, text: str, file: str) -> Fault:
    line = None
    message = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        message = ", ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        message = "A control character stands here, which YAML does not allow."
    return Fault(code="yaml.syntax", message=f"Not readable: {message}.", file=file, line=line)
