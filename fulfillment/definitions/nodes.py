"""The parts of a task graph as plain values, and how a node becomes JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class EdgeType(StrEnum):
    SUCCESS = "SUCCESS"
    OUTPUT = "OUTPUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    source: int
    target: int
    type: EdgeType
    output: str | None = None
    """Name of the source's output, for OUTPUT edges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    type: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    initial_interval_seconds: float
    backoff_coefficient: float
    maximum_interval_seconds: float
    maximum_attempts: int
    retryable: tuple[str, ...] = ()
    non_retryable: tuple[str, ...] = ()
    reconcile_first: bool = False
    escalate_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compensation:
    target: str
    action: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestone:
    name: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    index: int
    key: str
    """`create_tenant@2` for item 2; `<workflow>/notify_customer` for the order as a whole."""
    task: str
    title: str
    item: int | None
    """Position of the item, from 1; None for an order-level task."""
    items: tuple[int, ...]
    """Positions of all items that it serves: one, or those that share its workflow."""
    workflow: str
    workflow_version: int
    target: str
    action: str
    input: Mapping[str, Any]
    outputs: Mapping[str, Output]
    required: bool
    irreversible: bool
    retry: Retry | None
    """None: as the target system's row says at the time."""
    call_timeout_seconds: float
    callback_timeout_seconds: float
    compensation: Compensation | None
    no_compensation: str = ""
    """The stated reason when `compensation` is None."""
    milestones: tuple[Milestone, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorkflow:
    name: str
    version: int
    title: str
    billing_trigger: str
    stalls_after_seconds: float


def node_document(node: Node) -> dict[str, Any]:
    """Plain JSON, the inverse of `node_from_document`."""
    return {name: _listed(value) for name, value in asdict(node).items()}


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _listed(member) for key, member in value.items()}
    return [_listed(member) for member in value] if isinstance(value, list | tuple) else value


def node_from_document(document: Mapping[str, Any]) -> Node:
    retry, undo = document["retry"], document["compensation"]
    return Node(
        **{
            **document,
            "items": tuple(document["items"]),
            "outputs": {name: Output(**spec) for name, spec in document["outputs"].items()},
            "retry": _retry(retry) if retry is not None else None,
            "compensation": Compensation(**undo) if undo is not None else None,
            "milestones": tuple(Milestone(**entry) for entry in document["milestones"]),
        }
    )


def _retry(document: Mapping[str, Any]) -> Retry:
    codes = {name: tuple(document.get(name, ())) for name in ("retryable", "non_retryable")}
    return Retry(**{**document, **codes})
