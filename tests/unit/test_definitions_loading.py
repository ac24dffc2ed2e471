from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulfillment.definitions.loading import load_workflow, parse_workflow
from fulfillment.definitions.source import MAXIMUM_BYTES, MAXIMUM_DEPTH
from fulfillment.errors import DefinitionInvalid, Fault

FIXTURES = Path(__file__).parent / "definitions"
TARGETS = {
    "provisioning": frozenset({"create_tenant", "delete_tenant"}),
    "logistics": None,
    "inventory": None,
}
MINIMAL = (FIXTURES / "good" / "minimal.yaml").read_text()


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(DefinitionInvalid) as caught:
        parse_workflow(text=text, file="template.yaml")
    return caught.value.faults


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("good/*.yaml")), ids=lambda path: path.stem)
def test_a_good_template_loads(path: Path) -> None:
    assert load_workflow(path=path).name == path.stem


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("bad/*.yaml")), ids=lambda path: path.stem)
def test_every_marked_fault_is_found_on_its_line_and_no_other(path: Path) -> None:
    expected = sorted(
        (number, code)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for code in (re.findall(r"#! (.*)", line) or [""])[0].split()
    )
    # The other files are about other faults; only this one is published against targets.
    targets = TARGETS if path.stem == "meaning" else None
    with pytest.raises(DefinitionInvalid) as caught:
        load_workflow(path=path, targets=targets)
    assert sorted((f.line, f.code) for f in caught.value.faults) == expected
    assert {f.file for f in caught.value.faults} == {str(path)}


def test_a_fault_names_file_line_and_path() -> None:
    (fault,) = faults_of(MINIMAL.replace("title: Make it", "titel: Make it")[:-1] + "\n")[1:]
    assert str(fault).startswith("template.yaml:9 tasks.make.titel [shape.extra_forbidden]")
    assert "Did you mean 'title'?" in fault.message


def test_a_cycle_is_named_task_by_task() -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        load_workflow(path=FIXTURES / "bad" / "cycles.yaml")
    messages = [f.message for f in caught.value.faults if f.code == "definition.cycle"]
    assert messages == [
        "Tasks wait for each other: egg -> hen -> egg.",
        "Tasks wait for each other: rock -> paper -> scissors -> rock.",
    ]


def test_faults_of_the_file_and_of_the_meaning_are_reported_together() -> None:
    text = MINIMAL.replace("action: make", "action: make\n    retry: stubborn\n    input: {a: no}")
    assert [f.code for f in faults_of(text)] == [
        "definition.unknown_retry_policy",
        "yaml.ambiguous",
    ]


@pytest.mark.parametrize("word", ["no", "Yes", "on", "OFF", "0o17", "0x1F", "1_000", "1e3", "<<"])
def test_a_plain_word_that_yaml_versions_read_differently_is_refused(word: str) -> None:
    text = MINIMAL.replace("action: make", f"action: make\n    input: {{value: {word}}}", 1)
    assert [f.code for f in faults_of(text)] == ["yaml.ambiguous"]
    quoted = text.replace(f"value: {word}", f"value: '{word}'")
    loaded = parse_workflow(text=quoted, file="template.yaml")
    assert loaded.tasks["make"].input == {"value": word}


def test_plain_json_values_keep_their_type() -> None:
    values = "[1, -2, 0.5, 1.5e+3, true, false, null, ~, word, '1']"
    text = MINIMAL.replace("action: make", f"action: make\n    input: {{value: {values}}}", 1)
    loaded = parse_workflow(text=text, file="template.yaml")
    expected = [1, -2, 0.5, 1500.0, True, False, None, None, "word", "1"]
    assert loaded.tasks["make"].input["value"] == expected


def test_a_bomb_of_aliases_is_refused_without_being_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    codes = {f.code for f in faults_of("\n".join(lines))}
    assert {"yaml.anchor", "yaml.alias"} <= codes


def test_deep_nesting_is_refused() -> None:
    (fault,) = faults_of("workflow: " + "[" * 50_000)
    assert fault.code == "yaml.depth"
    assert str(MAXIMUM_DEPTH) in fault.message


def test_a_huge_text_or_file_is_refused_unread(tmp_path: Path) -> None:
    assert [f.code for f in faults_of("#" * (MAXIMUM_BYTES + 1))] == ["yaml.too_large"]
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"\xff" * (MAXIMUM_BYTES + 1))
    with pytest.raises(DefinitionInvalid, match="yaml.too_large"):
        load_workflow(path=path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"workflow: \xff\n", "file.encoding"),
        (b"workflow: \x07bell\n", "yaml.syntax"),
        (b"", "yaml.documents"),
        (b"a: 1\n---\nb: 2\n", "yaml.documents"),
        (b"? [a, b]\n: c\n", "yaml.key"),
        (b"*unknown : c\n", "yaml.alias"),
        (b"%YAML 9.9\n---\na: b\n", "yaml.syntax"),
        (b"a: b: c\n", "yaml.syntax"),
        (b"tasks:\n\tmake: 1\n", "yaml.syntax"),
        (b"42\n", "shape.not_a_mapping"),
    ],
)
def test_an_unreadable_file_is_a_fault_and_never_another_error(
    tmp_path: Path, content: bytes, code: str
) -> None:
    path = tmp_path / "template.yaml"
    path.write_bytes(content)
    with pytest.raises(DefinitionInvalid) as caught:
        load_workflow(path=path)
    assert code in {f.code for f in caught.value.faults}
    assert all(f.file == str(path) for f in caught.value.faults)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_template_with_a_slip_of_the_pen_loads_or_is_refused_with_a_place(
    data: st.DataObject,
) -> None:
    good = (FIXTURES / "good" / "everything.yaml").read_text()
    start = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(0, 12))
    slip = data.draw(st.text(alphabet="\n\t :-[]{}&*!|>'\"%@`#$?,.aZ09\0\ud800é", max_size=4))
    try:
        parse_workflow(text=good[:start] + slip + good[start + length :], file="slip.yaml")
    except DefinitionInvalid as refused:
        assert refused.faults
        assert all(fault.file == "slip.yaml" and fault.code for fault in refused.faults)


def test_a_missing_file_or_a_folder_is_a_fault(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(DefinitionInvalid, match="file.unreadable"):
            load_workflow(path=path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_workflow(path=path).name == "minimal"
