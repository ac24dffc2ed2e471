"""What docs/workflows.md shows is what is shipped, and what it lists is what there is."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from fulfillment.definitions import dependencies, schema, steps, undo_specs
from fulfillment.definitions.closed import Closed
from fulfillment.definitions.loading import parse_workflow
from oms.environment import CHECKOUT
from oms.occurrences import ScheduleFile

TEXT = (CHECKOUT / "docs" / "workflows.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
_FROM = re.compile(r"^[a-z_]+:\s+# (?P<workflow>[a-z-]+)(,.*)?$", re.MULTILINE)


def shipped(name: str) -> dict[str, Any]:
    files = sorted((CHECKOUT / "templates" / "workflows" / name).glob("v*.yaml"))
    found: dict[str, Any] = yaml.safe_load(files[-1].read_text())
    return found


def is_part(shown: Any, of: Any) -> bool:
    """What is shown may leave something out, and changes nothing."""
    if isinstance(shown, dict) and isinstance(of, dict):
        return all(key in of and is_part(value, of[key]) for key, value in shown.items())
    if isinstance(shown, list) and isinstance(of, list):
        return all(any(is_part(one, other) for other in of) for one in shown)
    return bool(shown == of)


NAMED = [(block, match["workflow"]) for block in BLOCKS if (match := _FROM.search(block))]


@pytest.mark.parametrize(("block", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_snippet_that_names_its_workflow_stands_in_it(block: str, name: str) -> None:
    template = shipped(name)
    for task, shown in yaml.safe_load(block).items():
        assert is_part(shown, template["tasks"][task]), f"{name}: {task}"


def test_enough_snippets_name_their_workflow() -> None:
    assert len({name for _, name in NAMED}) >= 5


def test_every_snippet_is_yaml() -> None:
    assert len(BLOCKS) >= 15
    for block in BLOCKS:
        assert yaml.safe_load(block) is not None


def test_the_first_template_has_no_faults() -> None:
    (block,) = [block for block in BLOCKS if block.startswith("workflow: desk-lamp")]
    assert parse_workflow(text=block, file="desk-lamp").name == "desk-lamp"


def test_the_schedule_can_be_used() -> None:
    (block,) = [block for block in BLOCKS if block.startswith("schedules:")]
    assert ScheduleFile.model_validate(yaml.safe_load(block)).schedules


def test_every_key_of_the_language_is_in_the_reference() -> None:
    _, _, reference = TEXT.partition("# Reference\n")
    keys = {
        field.alias or name
        for module in (schema, steps, dependencies, undo_specs)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Closed)
        for name, field in model.model_fields.items()
    }
    missing = {key for key in keys if not re.search(rf"\b{key}\b", reference)}
    assert missing == set()


def test_every_code_of_a_fault_is_explained() -> None:
    source = "".join(
        path.read_text() for path in (CHECKOUT / "fulfillment" / "definitions").glob("*.py")
    )
    codes = set(re.findall(r'report\(\s*"([a-z_]+)"', source)) | set(
        re.findall(r'code="definition\.([a-z_]+)"', source)
    )
    listed = set(re.findall(r"`(?:definition)?\.([a-z_]+)`", TEXT))
    assert codes - listed == set()


def test_every_shipped_workflow_is_introduced() -> None:
    for folder in (CHECKOUT / "templates" / "workflows").iterdir():
        if folder.is_dir():
            assert f"`{folder.name}`" in TEXT, folder.name


def test_lines_can_be_read() -> None:
    code = False
    for line in TEXT.splitlines():
        code ^= line.startswith("```")
        assert len(line) <= 100 or line.startswith("|") or code, line
