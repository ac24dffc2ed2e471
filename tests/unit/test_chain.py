"""The hash chain of the audit trail, and the search for the place where it breaks."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fulfillment.engine.work.audit import breaks
from fulfillment.engine.work.chain import link
from fulfillment.models import Transition

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ROW: dict[str, Any] = {
    "sequence": 7,
    "entity": "task",
    "entity_id": "42",
    "name": "succeed",
    "from_state": "DISPATCHED",
    "to_state": "SUCCEEDED",
    "actor": "worker a:1",
    "cause": "the target system confirmed it",
    "details": {"b": 1, "a": "ü"},
    "occurred_at": AT,
}


def test_a_link_is_the_hash_of_every_value_and_of_the_hash_before() -> None:
    values = ["before", 7, "task", "42", "succeed", "DISPATCHED", "SUCCEEDED", "worker a:1"]
    values += ["the target system confirmed it", {"a": "ü", "b": 1}]  # type: ignore[list-item]
    values += ["2026-03-01T12:00:00.123456+00:00"]
    expected = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    assert link(previous="before", **ROW) == expected


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("previous", "another"),
        ("sequence", 8),
        ("entity", "plan"),
        ("entity_id", "43"),
        ("name", "fail"),
        ("from_state", "READY"),
        ("to_state", "FAILED_FINAL"),
        ("actor", "somebody"),
        ("cause", ""),
        ("details", {"b": 1, "a": "u"}),
        ("occurred_at", AT + timedelta(microseconds=1)),
    ],
)
def test_every_value_counts(value: str, other: Any) -> None:
    row = {"previous": "before", **ROW}
    assert link(**{**row, value: other}) != link(**row)


def test_text_can_not_move_from_one_value_to_the_next() -> None:
    first = link(previous="", **{**ROW, "actor": "ab", "cause": "c"})
    assert first != link(previous="", **{**ROW, "actor": "a", "cause": "bc"})


def test_the_same_instant_in_another_zone_is_the_same_link() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5)))
    assert link(previous="", **{**ROW, "occurred_at": elsewhere}) == link(previous="", **ROW)


def a_chain(length: int) -> list[Transition]:
    rows: list[Transition] = []
    for sequence in range(1, length + 1):
        values = {**ROW, "sequence": sequence}
        previous = rows[-1].hash if rows else ""
        rows.append(Transition(**values, hash=link(previous=previous, **values)))
    return rows


def test_an_untouched_chain_has_no_breaks() -> None:
    rows = a_chain(5)
    assert breaks(rows=rows, length=5, head=rows[-1].hash) == []
    assert breaks(rows=[], length=0, head="") == []


@pytest.mark.parametrize("value", ["entity_id", "to_state", "actor", "cause"])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_one_changed_value_is_found_in_its_row(value: str, position: int) -> None:
    rows = a_chain(5)
    head = rows[-1].hash
    rows[position].__dict__[value] = "something else"
    (found,) = breaks(rows=rows, length=5, head=head)
    assert f"Row {position + 1} " in found


def test_a_row_that_was_rewritten_with_its_hash_is_found_behind_it() -> None:
    rows = a_chain(5)
    head = rows[-1].hash
    forged = {**ROW, "sequence": 3, "actor": "somebody else"}
    rows[2] = Transition(**forged, hash=link(previous=rows[1].hash, **forged))
    (found,) = breaks(rows=rows, length=5, head=head)
    assert "Row 4 " in found


@pytest.mark.parametrize(("kept", "missing"), [([0, 1, 4], "3 to 4"), ([2, 3, 4], "1 to 2")])
def test_rows_that_were_taken_out_are_found(kept: list[int], missing: str) -> None:
    rows = a_chain(5)
    found = breaks(rows=[rows[n] for n in kept], length=5, head=rows[-1].hash)
    assert found == [f"Rows {missing} are missing."]


def test_a_tail_that_was_cut_off_is_found() -> None:
    rows = a_chain(5)
    assert breaks(rows=rows[:3], length=5, head=rows[-1].hash) == ["Rows 4 to 5 are missing."]
    assert breaks(rows=[], length=5, head=rows[-1].hash) == ["Rows 1 to 5 are missing."]


def test_a_head_of_something_else_is_found() -> None:
    (found,) = breaks(rows=a_chain(5), length=5, head="0" * 64)
    assert "head" in found
