"""The benchmark's own arithmetic: statistics, the results document, counting what was done."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.load import drain, figures, handlers, parts, reading, results
from tests.load.parts import BenchFailed, run_parts, sized
from tests.load.verification import AUDIT, Found, faults_of

ABOUT = results.about(
    now=datetime(2026, 7, 2, 10, 0, tzinfo=UTC), settings={"orders": 10}, load=0.123
)


def test_spread_keeps_every_round():
    assert figures.spread([300.0, 100.0, 250.0]) == {
        "median": 250.0,
        "min": 100.0,
        "max": 300.0,
        "rounds": [300.0, 100.0, 250.0],
    }


def test_percentiles_are_values_that_were_measured():
    found = figures.percentiles([float(n) for n in range(1, 201)])
    assert found == {"p50": 100.0, "p90": 180.0, "p99": 198.0, "worst": 200.0, "count": 200}


def test_percentiles_of_a_single_value_are_that_value():
    assert figures.percentiles([7.0]) == {
        **dict.fromkeys(("p50", "p90", "p99", "worst"), 7.0),
        "count": 1,
    }


def test_nothing_is_compared_with_nothing():
    assert figures.ratio(9184.0, 1653.0) == 5.556
    with pytest.raises(ValueError, match="compared"):
        figures.ratio(1.0, 0.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1234.567, 1235.0), (0.0123456, 0.01235), (0.0, 0.0), (-12.3456, -12.35)],
)
def test_figures_have_four_digits(value, expected):
    assert figures.tidy(value) == expected


def test_a_table_has_a_dash_where_there_is_nothing():
    shown = figures.table({"engine": {"tasks/s": 1234.5, "ms": 9.04}, "other": {"ms": 120}})
    assert shown.splitlines() == [
        "        tasks/s    ms",
        "engine    1,234  9.04",
        "other         –   120",
    ]


def test_a_part_that_is_measured_again_replaces_its_own_figures_only():
    first = results.merged({}, part="w", figures={"ratio_vs_celery": 1.0}, about=ABOUT)
    second = results.merged(first, part="drain", figures={"share": 0.9}, about=ABOUT)
    third = results.merged(second, part="w", figures={"ratio_vs_celery": 3.0}, about=ABOUT)
    assert third["drain"]["share"] == 0.9
    assert third["w"]["ratio_vs_celery"] == 3.0
    assert third["w"]["sizes"] == {"orders": 10}
    assert second["w"]["ratio_vs_celery"] == 1.0


def test_results_of_an_older_format_are_not_mixed_with_ours():
    old = {"format": 0, "w": {"ratio": 1}, "filling": {}}
    assert set(results.merged(old, part="http", figures={}, about=ABOUT)) == {"format", "http"}


def test_results_say_nothing_of_where_they_were_measured():
    assert set(ABOUT["machine"]) == {"cpus", "load_before"}
    assert "/" not in json.dumps(ABOUT)


def test_results_are_read_as_they_were_written(tmp_path: Path):
    assert results.read(tmp_path) == {}
    document = results.merged({}, part="w", figures={"settings": "2 × solo"}, about=ABOUT)
    path = results.write(tmp_path / "made", document)
    assert results.read(path.parent) == document
    assert [file.name for file in path.parent.iterdir()] == [results.LATEST]


# --- sizes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    orders: int = 100
    per_second: float = 4.0


def test_sizes_are_given_by_name():
    assert sized(_Sizes(), given={"orders": "5", "per_second": "0.5"}) == _Sizes(
        orders=5, per_second=0.5
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [({"order": "5"}, "there are orders, per_second"), ({"orders": "many"}, "is no int")],
)
def test_a_size_that_can_not_be_is_refused(given, message):
    with pytest.raises(BenchFailed, match=message):
        sized(_Sizes(), given=given)


def test_a_part_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(BenchFailed, match="no part 'wind'"):
        run_parts(names=["wind"], quick=False, given={}, folder=tmp_path)


def test_a_size_that_no_part_has_is_refused_before_anything_runs(tmp_path: Path):
    with pytest.raises(BenchFailed, match="has a size speed"):
        run_parts(names=["w", "drain"], quick=True, given={"speed": "9"}, folder=tmp_path)


def test_what_only_fills_is_part_of_no_whole_run():
    assert parts.chosen([], quick=False) == [
        "w",
        "http",
        "submission",
        "filling",
        "isolation",
        "drain",
        "desk",
    ]
    assert parts.chosen([], quick=True) == ["w"]
    assert parts.chosen(["fill"], quick=True) == ["fill"]


# --- what looks read ----------------------------------------------------------------------------


def test_tables_grow_that_are_large_because_the_system_is_full():
    empty = {"order": 100, "target": 16, "graph": 20_000, "hold": 500}
    full = {"order": 225_000, "target": 16, "graph": 20_100, "hold": 1_100, "lock": 30_000}
    assert reading.growing(empty, full) == {"order", "lock"}


def test_a_look_that_goes_through_a_table_that_grows_is_a_fault():
    found = reading.Readings(through={"scan": {"target": 16}, "list": {"order": 1_000, "key": 3}})
    assert found.faults({"order", "task"}) == ["list: 1,000 rows of order, one after the other"]
    assert found.faults({"task"}) == []


def test_placeholders_are_numbered_by_place_or_by_name():
    assert reading.numbered("a = %s AND b LIKE 'x%%' AND c = %s") == (
        "a = $1 AND b LIKE 'x%' AND c = $2"
    )
    assert reading.numbered("%(now)s < a AND b < %(now)s AND %(b)s") == "$1 < a AND b < $1 AND $2"


def test_each_statement_stands_there_once_with_its_plan_and_those_who_sent_it():
    looks = [f"look {number}" for number in range(7)]
    statement = reading.Statement(text="SELECT 1", plan="Result", looks=looks)
    found = reading.Readings(statements={"SELECT 1": statement}).document()
    assert found == ("-- look 0, look 1, look 2, look 3, look 4 and 2 more\nSELECT 1;\n\nResult\n")


# --- the drain --------------------------------------------------------------------------------


def test_the_share_of_the_rate_leaves_out_the_ramp_and_the_last_second():
    begun = {0: 10, 1: 50, 2: 100, 3: 90, 4: 7}
    assert drain.share_of_rate(begun, rate=100.0, after=2) == 0.95


def test_a_second_without_a_call_counts():
    assert drain.share_of_rate({0: 100, 2: 100, 3: 1}, rate=100.0, after=0) == pytest.approx(2 / 3)


def test_a_drain_that_is_over_within_its_ramp_has_no_share():
    with pytest.raises(BenchFailed, match="let more tasks wait"):
        drain.share_of_rate({0: 10, 1: 10}, rate=100.0, after=5)


# --- counting ---------------------------------------------------------------------------------


def _complete(orders: int) -> Found:
    keys = [f"key-{number}" for number in range(orders * 8)]
    return Found(
        orders={"COMPLETED": orders},
        tasks={"SUCCEEDED": orders * 8},
        keys=keys,
        attempts={"SUCCEEDED": orders * 8},
        audit={name: count * orders for name, count in AUDIT.items()},
        effects=Counter(keys),
    )


def test_orders_that_are_complete_have_no_faults():
    assert faults_of(_complete(3), orders=3) == []


def test_effects_of_other_orders_are_no_fault():
    found = _complete(2)
    found.effects = {**found.effects, "another order's": 1}
    assert faults_of(found, orders=2) == []


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        (
            "orders",
            {"COMPLETED": 1, "IN_PROGRESS": 1},
            "orders by state, COMPLETED: 1 instead of 2",
        ),
        ("tasks", {"SUCCEEDED": 15, "READY": 1}, "tasks by state, READY: 1 instead of 0"),
        ("keys", ["key-0"] * 16, "idempotency keys: 1 instead of 16"),
        ("attempts", {"SUCCEEDED": 16, "": 1}, "attempts by outcome, open: 1 instead of 0"),
        ("audit", {}, "audit rows, task dispatch: 0 instead of 16"),
        ("broken_chains", 1, "broken audit chains: 1 instead of 0"),
        ("locks", 2, "locks that are still taken: 2 instead of 0"),
        ("cases", 1, "open cases: 1 instead of 0"),
        ("effects", {}, "keys without an effect: 16 instead of 0"),
        ("effects", {f"key-{n}": 1 + (n == 3) for n in range(16)}, "more than one effect: 1"),
    ],
)
def test_every_corner_that_is_cut_is_named(field, value, fault):
    found = _complete(2)
    setattr(found, field, value)
    assert any(fault in each for each in faults_of(found, orders=2))


def test_effects_are_counted_over_all_processes(tmp_path: Path):
    (tmp_path / "1.keys").write_text("a\nb\n")
    (tmp_path / "2.keys").write_text("b\n")
    assert handlers.effects(tmp_path) == {"a": 1, "b": 2}
