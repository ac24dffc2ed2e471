from __future__ import annotations

import re
from pathlib import Path

import pytest

from fulfillment.definitions.decomposition import ItemSelection, decompose
from fulfillment.definitions.graph import Graph
from fulfillment.definitions.loading import load_workflow, parse_workflow
from fulfillment.definitions.mermaid import mermaid
from fulfillment.states import TaskState

EVERYTHING = load_workflow(path=Path(__file__).parent / "definitions" / "good" / "everything.yaml")


def two_items() -> Graph:
    return decompose(
        items=[
            ItemSelection(position=p, offering="thing", action="disconnect", definition=EVERYTHING)
            for p in (1, 2)
        ]
    )


def test_a_definition_is_drawn_as_for_one_item() -> None:
    assert mermaid(EVERYTHING).splitlines() == [
        "flowchart TD",
        '  n0["First<br/>crm: begin<br/>⚑ First done"]',
        '  n3{{"Last<br/>logistics: ship<br/>⚑ All done"}}',
        '  n1["Second<br/>provisioning: build"]',
        '  n2("Extra<br/>notification: send_message")',
        '  n0 -->|"case_id, note"| n1',
        "  n1 --> n2",
        "  n0 --> n3",
        '  n1 -->|"serial"| n3',
    ]


def test_items_are_boxed_when_there_are_several() -> None:
    drawn = mermaid(two_items())
    assert re.findall(r'subgraph item(\d)\["Item \1"\]', drawn) == ["1", "2"]
    assert drawn.count("\n  end\n") == 2
    assert set(re.findall(r"^ +(n\d+)[\[({]", drawn, re.MULTILINE)) == {f"n{i}" for i in range(6)}


@pytest.mark.parametrize("state", list(TaskState))
def test_every_state_is_told_by_sign_and_word_and_not_by_colour_alone(state: TaskState) -> None:
    drawn = mermaid(two_items(), states={0: state})
    line = next(line for line in drawn.splitlines() if line.strip().startswith("n0["))
    sign, word = re.search(r'\["(.) First<br/>.*<br/>([a-z ]+)"\]:::[a-z]+$', line).groups()  # type: ignore[union-attr]
    assert word == state.value.replace("_", " ").lower()
    others = {
        mermaid(two_items(), states={0: other}).split('n0["')[1][0]
        for other in TaskState
        if other != state
    }
    assert sign not in others
    used = line.rsplit(":::", 1)[1]
    assert re.search(rf"^  classDef {used} fill:", drawn, re.MULTILINE)


def test_a_title_can_not_break_out_of_its_label() -> None:
    text = """
workflow: hostile
version: 1
title: Hostile
fulfils: [{offering: thing, actions: [add]}]
billing_trigger: order_submit
tasks:
  a:
    title: "x\\"] --> n9 <script>alert(1)</script> #quot; `&`\\n  click n0"
    target: crm
    action: go
    compensation: {none: Test.}
"""
    drawn = mermaid(parse_workflow(text=text, file="hostile.yaml"))
    (_, line) = drawn.splitlines()
    label = line.removeprefix('  n0["').removesuffix('"]').replace("<br/>", "")
    assert not set(label) & set('"<>`\n')
    assert "#34;" in label
    assert "#35;quot;" in label
