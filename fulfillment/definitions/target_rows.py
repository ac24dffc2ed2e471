"""Target systems as a file: the rows that `manage.py targets load` writes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StrictBool, StrictFloat, StrictInt, TypeAdapter

from fulfillment.definitions.closed import Closed, DashedName, Name, Text
from fulfillment.definitions.durations import Duration
from fulfillment.definitions.loading import read_text, shaped
from fulfillment.definitions.retry_specs import RetryPolicySpec
from fulfillment.definitions.source import read_source
from fulfillment.errors import DefinitionInvalid
from fulfillment.states import Domain

ANY_ACTION = "*"
RetryPolicies = dict[Name | Literal["*"], RetryPolicySpec]
RETRY_POLICIES: TypeAdapter[dict[str, RetryPolicySpec]] = TypeAdapter(RetryPolicies)
"""Retry policies by action, as a target's row holds them."""
MOST_PER_SECOND = 1_000_000
"""Of `rate_per_second`, which is above 0."""
_Slots = Annotated[StrictInt, Field(ge=1, le=1000)]


class TargetSpec(Closed):
    """One target system; the fields are those of its row (docs/adapters.md)."""

    title: Text
    domain: Domain = Domain.OTHER
    queue: DashedName
    adapter: Name
    settings: dict[str, JsonValue] = {}
    idempotent: StrictBool
    status_query: StrictBool
    asynchronous: StrictBool = False
    sender_slots: _Slots = 16
    concurrency_limit: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    query_slots: _Slots = 4
    accepted_holds_slot: StrictBool = False
    rate_per_second: Annotated[StrictFloat | StrictInt, Field(gt=0, le=MOST_PER_SECOND)] | None = (
        None
    )
    rate_burst: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1
    breaker_failures: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = None
    breaker_pause: Duration = timedelta(seconds=10)
    breaker_probes: _Slots = 1
    ramp: Duration | None = None
    lost_leases_limit: Annotated[StrictInt, Field(ge=2, le=1000)] = 5
    retry_policies: RetryPolicies = {}
    reconcile_after: Duration = timedelta(seconds=2)
    maximum_queries: Annotated[StrictInt, Field(ge=1, le=1000)] = 20


class TargetFile(Closed):
    targets: Annotated[dict[DashedName, TargetSpec], Field(min_length=1, max_length=1000)]


def whole_number_bounds() -> dict[str, tuple[int, int]]:
    """The least and the most of every field of a TargetSpec that is a whole number."""
    bounds: dict[str, tuple[int, int]] = {}
    for name, field in TargetSpec.model_json_schema()["properties"].items():
        for shape in field.get("anyOf", [field]):
            if shape.get("type") == "integer":
                bounds[name] = shape["minimum"], shape["maximum"]
    return bounds


def load_targets(*, path: Path) -> TargetFile:
    """Raises DefinitionInvalid with every fault, its file, line and path."""
    source = read_source(text=read_text(path=path), file=str(path))
    found, faults = shaped(model=TargetFile, source=source, file=str(path))
    if found is None or faults:
        raise DefinitionInvalid(sorted(faults, key=lambda fault: fault.line or 0))
    return found
