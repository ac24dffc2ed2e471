from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.definitions.canonical import canonical_json, content_hash
from fulfillment.definitions.durations import LONGEST, format_duration, parse_duration
from fulfillment.definitions.json_schema import workflow_schema
from fulfillment.definitions.loading import load_workflow, parse_workflow
from fulfillment.definitions.schema import (
    WorkflowDefinition,
    definition_document,
)

FIXTURES = Path(__file__).parent / "definitions"
TEMPLATES = Path(__file__).parents[2] / "templates" / "workflows"
GOOD = [*sorted(FIXTURES.glob("good/*.yaml")), *sorted(TEMPLATES.glob("*/*.yaml"))]
EVERYTHING = (FIXTURES / "good" / "everything.yaml").read_text()


def as_a_json_column_returns_it(document: Any) -> Any:
    """Key order is lost, as in PostgreSQL's jsonb."""
    return json.loads(json.dumps(document, sort_keys=True))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_definition_survives_a_json_column(path: Path) -> None:
    definition = load_workflow(path=path)
    stored = as_a_json_column_returns_it(definition_document(definition))
    restored = WorkflowDefinition.from_document(stored)
    assert restored == definition
    assert list(restored.tasks) == list(definition.tasks)
    assert list(restored.milestones) == list(definition.milestones)
    assert restored.content_hash == definition.content_hash == content_hash(stored)


def test_comments_formatting_and_spelled_out_defaults_do_not_change_the_hash() -> None:
    definition = parse_workflow(text=EVERYTHING, file="a.yaml")
    other = yaml.safe_dump(yaml.safe_load(EVERYTHING), sort_keys=False, width=40)
    other = "# reformatted\n" + other.replace("stalls_after: P1DT2H", "stalls_after: PT26H")
    assert other != EVERYTHING
    assert parse_workflow(text=other, file="b.yaml").content_hash == definition.content_hash


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("title: Second", "title: Other"),
        ("PT0.5S", "PT0.6S"),
        ("literal", "Literal"),
        ("reached_by: last", "reached_by: extra"),
        ("      - {success: first}\n", ""),
    ],
)
def test_changed_content_changes_the_hash(before: str, after: str) -> None:
    changed = EVERYTHING.replace(before, after)
    assert changed != EVERYTHING
    first = parse_workflow(text=EVERYTHING, file="a.yaml")
    assert parse_workflow(text=changed, file="a.yaml").content_hash != first.content_hash


def test_the_order_of_tasks_is_part_of_the_content() -> None:
    document = definition_document(parse_workflow(text=EVERYTHING, file="a.yaml"))
    turned = {**document, "tasks": document["tasks"][::-1]}
    assert content_hash(turned) != content_hash(document)


def test_selectors_list_every_offering_and_action() -> None:
    assert parse_workflow(text=EVERYTHING, file="a.yaml").selectors == (
        ("bundle-2.0", "add"),
        ("bundle-2.0", "modify"),
        ("thing", "disconnect"),
    )


def test_a_task_without_a_policy_leaves_it_to_the_target_system() -> None:
    everything = parse_workflow(text=EVERYTHING, file="a.yaml")
    own = everything.retry_policy(everything.tasks["first"])
    assert own is not None
    assert own.maximum_attempts == 7
    minimal = load_workflow(path=FIXTURES / "good" / "minimal.yaml")
    assert minimal.retry_policy(minimal.tasks["make"]) is None


def test_the_schema_file_is_in_step() -> None:
    stored = json.loads((TEMPLATES / "workflow.schema.json").read_text())
    # `python -m fulfillment.definitions` prints it.
    assert stored == json.loads(json.dumps(workflow_schema()))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_schema_accepts_what_the_loader_accepts(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(workflow_schema())
    jsonschema.validate(yaml.safe_load(path.read_text()), workflow_schema())


def test_the_schema_refuses_what_editors_should_underline() -> None:
    document = yaml.safe_load((FIXTURES / "bad" / "shape.yaml").read_text())
    validator = jsonschema.Draft202012Validator(workflow_schema())
    places = {".".join(map(str, error.absolute_path)) for error in validator.iter_errors(document)}
    assert {"stalls_after", "billing_trigger", "tasks.make", "tasks.make.outputs.size"} <= places


@given(st.integers(min_value=1, max_value=int(LONGEST.total_seconds()) * 1000))
def test_durations_read_back_as_they_were_written(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "15M", "PT0S", "P1M", "P1Y", "PT-1S", "P367D", "pt1s", "PT1.5M", "P1DT"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="PT15M|must be longer"):
        parse_duration(text)


def test_numbers_that_a_json_column_respells_hash_alike() -> None:
    assert content_hash([1e16, 2.0]) == content_hash([10**16, 2])
    assert content_hash([0.5]) != content_hash([1])
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([float("inf")])
