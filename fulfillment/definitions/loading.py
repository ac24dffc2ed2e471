"""Template files -> validated definitions, or every fault with its file, line and path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fulfillment.definitions import dependencies, schema, steps, undo_specs
from fulfillment.definitions.closed import Closed
from fulfillment.definitions.graph import Targets
from fulfillment.definitions.schema import WorkflowDefinition
from fulfillment.definitions.source import MAXIMUM_BYTES, Source, join_path, read_source, too_large
from fulfillment.definitions.validation import validate
from fulfillment.definitions.wording import in_words
from fulfillment.errors import DefinitionInvalid, Fault

Model = TypeVar("Model", bound=Closed)

_KEYS = sorted(
    {
        name
        for module in (schema, steps, dependencies, undo_specs)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Closed)
        for name in model.model_fields
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A file as it was read. Without a definition its text or its shape is at fault."""

    file: str
    source: Source
    definition: WorkflowDefinition | None
    faults: Sequence[Fault] = ()

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """The same, with the file and the lines that they are about."""
        return [_located(fault, source=self.source, file=self.file) for fault in faults]


def load_workflow(*, path: Path, targets: Targets | None = None) -> WorkflowDefinition:
    """Read, shape-check and validate one file. Raises DefinitionInvalid with every fault.

    Faults of the shape hide faults of the meaning: those need a well-shaped definition.
    """
    return parse_workflow(text=read_text(path=path), file=str(path), targets=targets)


def read_template(*, path: Path) -> Template:
    """Read and shape-check one file. Raises DefinitionInvalid when it can't be read at all."""
    return _template(text=read_text(path=path), file=str(path))


def _template(*, text: str, file: str) -> Template:
    source = read_source(text=text, file=file)
    definition, faults = shaped(model=WorkflowDefinition, source=source, file=file)
    return Template(file=file, source=source, definition=definition, faults=faults)


def read_text(*, path: Path) -> str:
    """A template file's text. Raises DefinitionInvalid when it can't be read."""
    try:
        if not path.is_file():
            raise FileNotFoundError("there is no such file")
        with path.open("rb") as stream:
            content = stream.read(MAXIMUM_BYTES + 1)
        if len(content) > MAXIMUM_BYTES:
            raise DefinitionInvalid([too_large(file=str(path))])
        text = content.decode("utf-8-sig")
    except OSError as error:
        message = f"It can't be read: {error.strerror or error}."
        fault = Fault(code="file.unreadable", message=message, file=str(path))
        raise DefinitionInvalid([fault]) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = "It is not UTF-8; save it in that encoding."
        fault = Fault(code="file.encoding", message=message, file=str(path), line=line)
        raise DefinitionInvalid([fault]) from error
    return text


def parse_workflow(*, text: str, file: str, targets: Targets | None = None) -> WorkflowDefinition:
    """The same for a text; `file` is only named in faults."""
    template = _template(text=text, file=file)
    faults = list(template.faults)
    if template.definition is not None:
        faults += template.located(validate(template.definition, targets))
    if template.definition is None or faults:
        raise DefinitionInvalid(sorted(faults, key=lambda fault: fault.line or 0))
    return template.definition


def shaped(*, model: type[Model], source: Source, file: str) -> tuple[Model | None, list[Fault]]:
    """What was read as an instance of `model`, and every fault of its text and shape."""
    faults = list(source.faults)
    if not isinstance(source.data, dict):
        message = "The file must be a mapping; docs/workflows.md shows one."
        return None, [
            *faults,
            Fault(code="shape.not_a_mapping", message=message, file=file, line=1),
        ]
    try:
        return model.model_validate(source.data), faults
    except ValidationError as error:
        found = error.errors(include_url=False)
    # Members that failed are not counted, so a list can seem too short because of them.
    shape = (
        _shape_fault(one, source)
        for one in found
        if not (one["type"] == "too_short" and one["input"])
    )
    return None, faults + [_located(fault, source=source, file=file) for fault in shape]


def _located(fault: Fault, *, source: Source, file: str) -> Fault:
    """With file, and the line of the nearest enclosing path that stands in the file."""
    path = fault.path
    while path and path not in source.lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return replace(fault, file=file, line=source.lines.get(path, 1))


def _shape_fault(error: ErrorDetails, source: Source) -> Fault:
    kind = error["type"]
    # The chosen member of a union is named in an error's location, though the file does not.
    location = [part for part in error["loc"] if not str(part).startswith("~")]
    path, last = _path_in(source.data, location, missing=kind == "missing")
    message = in_words(error)
    if kind == "missing":
        message = f"{last!r} is required here."
    elif kind == "extra_forbidden":
        close = [one for one in difflib.get_close_matches(str(last), _KEYS) if one != last]
        hint = f" Did you mean {close[0]!r}?" if close and last not in _KEYS else ""
        message = f"{last!r} is not known here.{hint}"
    return Fault(code=f"shape.{kind}", path=path, message=message)


def _path_in(data: Any, location: Sequence[int | str], *, missing: bool) -> tuple[str, int | str]:
    """The dotted path of as much of a pydantic location as the file has."""
    path, last = "", location[-1] if location else ""
    for position, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and position == len(location) - 1):
                continue
        path = join_path(path, part)
    return path, last
