"""Faults of a shape, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from fulfillment.definitions.loading import parse_workflow
from fulfillment.errors import DefinitionInvalid

GOOD = (Path(__file__).parent / "definitions" / "good" / "minimal.yaml").read_text()
PYDANTIC = ("Input should", "should match", "should have", "valid dictionary", "Extra inputs")


def messages(text: str) -> list[str]:
    with pytest.raises(DefinitionInvalid) as caught:
        parse_workflow(text=text, file="template.yaml")
    return [fault.message for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: one", "A whole number is expected here, not 'one'."),
        ("version: 1", "version: 0", "It must be at least 1, not 0."),
        ("title: Make it", "title: [Make, it]", "A text is expected here, not ['Make', 'it']."),
        ("title: Make it", "title: ''", "A text of at least 1 character is needed here."),
        (
            "title: Make it",
            "title: Make it\n    required: 1",
            "true or false is expected here, not 1.",
        ),
        (
            "title: Make it",
            "title: Make it\n    depends_on: x",
            "A list is expected here, not 'x'.",
        ),
        (
            "title: Make it",
            "title: Make it\n    input: [1]",
            "A mapping of names to values is expected here, not [1].",
        ),
        (
            "title: Make it",
            "title: Make it\n    retry: Often",
            "'Often' is not allowed here; it takes up to 63 of a-z, 0-9 and _, a letter first.",
        ),
        (
            "title: Make it",
            "title: Make it\n    scope: all",
            "'all' is not one of 'item' or 'order'.",
        ),
    ],
)
def test_a_fault_says_what_is_expected_and_what_there_is(old: str, new: str, message: str) -> None:
    assert GOOD.count(old) == 1
    found = messages(GOOD.replace(old, new))
    assert message in found
    assert not [one for one in found if any(words in one for words in PYDANTIC)]


def test_what_is_shown_of_a_long_value_is_short() -> None:
    (message,) = messages(GOOD.replace("title: Make it", f"title: [{'x' * 5000}]"))
    assert len(message) < 200


def test_a_key_of_another_kind_of_task_is_not_offered_in_its_own_place() -> None:
    text = GOOD.replace("title: Make it", "title: Make it\n    fields: {x: string}")
    assert messages(text) == ["'fields' is not known here."]
