"""Publishing files: all of them or none, with every fault and its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from fulfillment.models import WorkflowVersion
from tests import desk

pytestmark = pytest.mark.django_db

HEAD = """\
workflow: {name}
version: {version}
title: A workflow
fulfils:
  - {{offering: {offering}, actions: [add]}}
billing_trigger: order_submit
tasks:
"""
INNER = """\
workflow: {name}
version: {version}
title: A sub-process
subprocess: {{}}
tasks:
"""
SOUND = """\
  make: {title: Make it, target: alpha, action: make, compensation: {none: Nothing to undo.}}
"""


@pytest.fixture(autouse=True)
def target() -> None:
    desk.target("alpha")


def a_file(folder: Path, tasks: str, *, name: str = "lamp", head: str = HEAD, **more: str) -> str:
    values = {"name": name, "version": "1", "offering": name, **more}
    path = folder / f"{name}-{values['version']}.yaml"
    path.write_text(head.format(**values) + tasks)
    return str(path)


def uses(name: str, version: str = "") -> str:
    return f"  all: {{title: All, use: {name}{version}}}\n"


def published(*files: str) -> set[str]:
    call_command("workflows", "publish", *files, verbosity=0)
    return {str(one) for one in WorkflowVersion.objects.all()}


def refused(*files: str) -> str:
    before = WorkflowVersion.objects.count()
    with pytest.raises(CommandError) as caught:
        call_command("workflows", "publish", *files, verbosity=0)
    assert WorkflowVersion.objects.count() == before
    return str(caught.value)


def test_faults_that_only_the_installation_knows_have_file_and_line_beside_the_others(
    tmp_path: Path,
) -> None:
    file = a_file(
        tmp_path,
        """\
  hen: {title: T, target: nobody, action: a, depends_on: [{success: egg}], compensation: {none: x}}
  egg: {title: T, target: alpha, action: a, depends_on: [{success: hen}], compensation: {none: x}}
  all: {title: T, use: no-such-thing}
  late:
    title: T
    target: alpha
    action: make
    window: {calendar: nowhere, days: [mon], from: "08:00", to: "09:00", timezone: UTC}
    compensation: {none: x}
""",
    )
    lines = refused(file).splitlines()
    assert [line.split(" ")[0].removeprefix(file) for line in lines] == [":8", ":8", ":10", ":15"]
    for code, line in zip(
        ("cycle", "unknown_target", "unknown_subprocess", "window.unknown_calendar"),
        lines,
        strict=True,
    ):
        assert f"{code}]" in line


def test_of_several_files_all_are_published_or_none(tmp_path: Path) -> None:
    good = a_file(tmp_path, SOUND)
    bad = a_file(tmp_path, SOUND.replace("alpha", "nobody"), name="shade")
    worse = a_file(tmp_path, SOUND.replace("alpha", "no-one"), name="stand")
    told = refused(good, bad, worse)
    assert "'nobody'" in told
    assert "'no-one'" in told
    assert published(good) == {"lamp v1"}


def test_what_is_published_with_other_content_stops_the_other_files(tmp_path: Path) -> None:
    published(a_file(tmp_path, SOUND))
    fresh = a_file(tmp_path, SOUND, name="a-shade")
    assert "never changes" in refused(fresh, a_file(tmp_path, SOUND.replace("Make it", "Do it")))


def test_files_may_use_each_other_in_any_order(tmp_path: Path) -> None:
    user = a_file(tmp_path, uses("inner"))
    assert published(user, a_file(tmp_path, SOUND, name="inner", head=INNER)) == {
        "lamp v1",
        "inner v1",
    }


def test_a_sub_process_that_would_be_a_part_of_itself_is_refused(tmp_path: Path) -> None:
    assert "here: here -> here." in refused(
        a_file(tmp_path, uses("here"), name="here", head=INNER)
    ).replace(" would be a part of itself", "")
    ring = [
        a_file(tmp_path, uses(after), name=name, head=INNER)
        for name, after in (("one", "two"), ("two", "three"), ("three", "one"))
    ]
    assert refused(*ring).count("would be a part of itself") == 3


def test_a_later_version_can_t_close_a_circle_either(tmp_path: Path) -> None:
    published(
        a_file(tmp_path, SOUND, name="inner", head=INNER),
        a_file(tmp_path, uses("inner"), name="outer", head=INNER),
    )
    later = a_file(tmp_path, uses("outer"), name="inner", head=INNER, version="2")
    assert "inner -> outer -> inner" in refused(later)


def test_five_sub_processes_stand_inside_each_other_and_a_sixth_is_refused(tmp_path: Path) -> None:
    inner = [a_file(tmp_path, SOUND, name="level-1", head=INNER)]
    inner += [
        a_file(tmp_path, uses(f"level-{level - 1}"), name=f"level-{level}", head=INNER)
        for level in range(2, 7)
    ]
    assert "[definition.nesting]" in refused(*inner, a_file(tmp_path, uses("level-6")))
    assert "lamp v1" in published(*inner, a_file(tmp_path, uses("level-5")))


def test_what_another_workflow_fulfils_is_refused_until_that_lets_go_of_it(tmp_path: Path) -> None:
    old = a_file(tmp_path, SOUND)
    published(old)
    taker = a_file(tmp_path, SOUND, name="bulb", offering="lamp")
    assert "add lamp is fulfilled by lamp already" in refused(taker)
    giver = a_file(tmp_path, SOUND, version="2", offering="old-lamp")
    assert published(taker, giver) == {"lamp v1", "lamp v2", "bulb v1"}


def test_two_files_at_once_can_t_fulfil_the_same(tmp_path: Path) -> None:
    told = refused(a_file(tmp_path, SOUND), a_file(tmp_path, SOUND, name="bulb", offering="lamp"))
    assert told.count("[definition.fulfilled_already]") == 2


def test_a_sub_process_does_not_change_under_those_that_use_it(tmp_path: Path) -> None:
    face = INNER.replace("{{}}", "{{inputs: {{size: integer}}}}")
    user = "  all: {title: All, use: inner, input: {size: 3}}\n"
    published(a_file(tmp_path, SOUND, name="inner", head=face), a_file(tmp_path, user))
    wider = face.replace("size: integer", "size: integer, colour: string")
    second = a_file(tmp_path, SOUND, name="inner", head=wider, version="2")
    told = refused(second)
    assert "[definition.breaks_user]" in told
    assert "lamp uses it" in told
    assert "needs the input 'colour'" in told
    fitting = a_file(
        tmp_path, user.replace("size: 3", "size: 3, colour: red"), version="2", offering="lamp"
    )
    assert {"inner v2", "lamp v2"} <= published(second, fitting)


def test_who_names_a_version_of_a_sub_process_keeps_it(tmp_path: Path) -> None:
    published(
        a_file(tmp_path, SOUND, name="inner", head=INNER),
        a_file(tmp_path, uses("inner", ", version: 1")),
    )
    wider = INNER.replace("{{}}", "{{inputs: {{colour: string}}}}")
    assert "inner v2" in published(a_file(tmp_path, SOUND, name="inner", head=wider, version="2"))


def test_an_older_file_may_be_published_again_after_another_took_what_it_fulfilled(
    tmp_path: Path,
) -> None:
    first = a_file(tmp_path, SOUND)
    published(first)
    second = a_file(tmp_path, SOUND, version="2", offering="old-lamp")
    taker = a_file(tmp_path, SOUND, name="bulb", offering="lamp")
    every = published(second, taker)
    assert published(first, second, taker) == every


def test_what_is_broken_already_does_not_stop_the_others(tmp_path: Path) -> None:
    published(a_file(tmp_path, SOUND, name="inner", head=INNER), a_file(tmp_path, uses("inner")))
    # An older release published this without asking who uses it.
    row = WorkflowVersion.objects.get(name="inner")
    row.pk, row.version = None, 2
    row.document = {**row.document, "version": 2, "subprocess": {"inputs": {"x": "string"}}}
    row.save(force_insert=True)
    assert "shade v1" in published(a_file(tmp_path, SOUND, name="shade"))
    assert "stand v1" in published(a_file(tmp_path, SOUND, name="stand", head=INNER))
