"""Taking back one change of an asset leaves what others have changed since."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oms.asset_history import FIELDS, without

_WORDS = st.sampled_from(["a", "b", "c"])
_ASSETS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["ACTIVE", "INACTIVE"]),
        "offering": _WORDS,
        "quantity": st.integers(1, 3),
        "characteristics": st.dictionaries(_WORDS, _WORDS, max_size=3),
        "place": st.dictionaries(_WORDS, _WORDS, max_size=1),
    }
)


def stage(order: int, position: int = 1, **values: Any) -> dict[str, Any]:
    return {"order": order, "position": position, **asset(**values)}


def asset(**values: Any) -> dict[str, Any]:
    return {
        "state": "ACTIVE",
        "offering": "line",
        "quantity": 1,
        "characteristics": {},
        "place": {},
        **values,
    }


def test_the_last_change_goes_back_to_what_was_before() -> None:
    left, changes = without(
        asset=asset(quantity=5, characteristics={"speed": 100, "new": 1}),
        changes=[stage(7, characteristics={"speed": 10, "colour": "red"}, quantity=2)],
        order_id=7,
        position=1,
    )
    assert left == asset(quantity=2, characteristics={"speed": 10, "colour": "red"})
    assert changes == []


def test_what_another_order_has_changed_since_stays() -> None:
    first = stage(7, characteristics={"speed": 10, "colour": "red"}, quantity=1)
    second = stage(8, characteristics={"speed": 100, "colour": "red"}, quantity=3)
    now = asset(characteristics={"speed": 100, "colour": "blue"}, quantity=3)
    left, changes = without(asset=now, changes=[first, second], order_id=7, position=1)
    assert left == asset(characteristics={"speed": 10, "colour": "blue"}, quantity=1)
    # And if the other one is undone as well, nothing of the first is left in it.
    assert changes == [stage(8, characteristics={"speed": 10, "colour": "red"}, quantity=1)]


def test_what_is_new_becomes_inactive_and_stays_known() -> None:
    left, changes = without(
        asset=asset(quantity=5),
        changes=[{"order": 7, "position": 1, "state": "INACTIVE"}],
        order_id=7,
        position=1,
    )
    assert (left, changes) == (asset(quantity=5, state="INACTIVE"), [])


def test_what_is_not_known_changes_nothing() -> None:
    known = [stage(7, quantity=2)]
    assert without(asset=asset(), changes=known, order_id=7, position=2) == (asset(), known)
    assert without(asset=asset(), changes=[], order_id=7, position=1) == (asset(), [])


@given(stages=st.lists(_ASSETS, min_size=2, max_size=5), data=st.data())
def test_undone_in_any_order_nothing_is_left_of_any_change(
    stages: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Whichever goes first: when all are taken back, the asset is as it was in the beginning."""
    changes = [{"order": number, "position": 1, **one} for number, one in enumerate(stages[:-1])]
    current = dict(stages[-1])
    for number in data.draw(st.permutations(range(len(changes)))):
        current, changes = without(asset=current, changes=changes, order_id=number, position=1)
    assert changes == []
    assert {name: current[name] for name in FIELDS} == stages[0]


@given(stages=st.lists(_ASSETS, min_size=2, max_size=4), number=st.integers(0, 2))
def test_what_is_given_is_left_as_it_is(stages: list[dict[str, Any]], number: int) -> None:
    changes = [{"order": at, "position": 1, **one} for at, one in enumerate(stages[:-1])]
    before = repr((changes, stages))
    without(asset=stages[-1], changes=changes, order_id=number, position=1)
    assert repr((changes, stages)) == before
