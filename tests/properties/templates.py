"""Random templates: every feature of the language, valid by construction.

A template is a plain document; what its conditions and mappings mean is written down beside
their text as Python, so that nobody has to read the expression language to judge what follows.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.properties.language_documents import Meaning, Spec, Template

MILESTONES = ("ready", "paid")
"""Reported from outside for an order."""
SHARED = "reached"
"""Reached by a task, for other orders to wait for."""
SIGNAL, KEYS = "called", ("0", "1")
ZONES = ("UTC", "Asia/Kolkata", "America/Phoenix")
"""Their clocks are never put forward or back; that is tested where windows are."""


@dataclass
class _Task:
    """What has to be known of a task to let others depend on it."""

    name: str
    of_order: bool
    required: bool
    kind: str = "command"
    may_be_skipped: bool = False
    each: bool = False
    outputs: dict[str, str] = field(default_factory=dict)
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    """Chooser -> what it has to choose for this task to exist."""
    spec: Spec = field(default_factory=dict)
    slots: list[str] = field(default_factory=list)
    """Of a decision: the branches that are still to be written."""


@dataclass(frozen=True)
class _Value:
    """A text that may be read somewhere."""

    path: str
    may_be_missing: bool
    meaning: Meaning


@dataclass
class Dice:
    """Everything that is left to chance, repeatable by its seed."""

    seed: str

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def maybe(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def one_of(self, *values: Any) -> Any:
        return self.random.choice(values)

    def some_of(self, values: Iterable[Any], most: int) -> list[Any]:
        among = list(values)
        return self.random.sample(among, self.random.randint(0, min(most, len(among))))


class _Author(Dice):
    """Writes one body of tasks."""

    def __init__(self, seed: str, meanings: dict[str, Meaning], prefix: str = "t") -> None:
        super().__init__(seed)
        self.meanings = meanings
        self.prefix = prefix
        self.tasks: list[_Task] = []
        self.parts: dict[str, Spec] = {}

    @property
    def is_part(self) -> bool:
        return self.prefix != "t"

    def says(self, text: str, meaning: Meaning) -> str:
        self.meanings[text] = meaning
        return text

    # --- what may be read -----------------------------------------------------------------------

    def facts(self, task: _Task) -> list[_Value]:
        """Whole numbers that the order itself holds."""
        if self.is_part:
            return [_Value("inputs.n", False, lambda s: s.inputs["n"])]
        found = [_Value("order.priority", False, lambda s: s.order["priority"])]
        if not task.of_order:
            found.append(_Value("item.characteristics.n", False, lambda s: s.item["n"]))
        return found

    def results(self, task: _Task, *, certain: bool = False) -> list[_Value]:
        """Whole numbers that others have returned."""
        found = []
        for one in task.spec["depends_on"]:
            if "output" not in one or (certain and one.get("when")):
                continue
            of, _, name = one["output"].partition(".")
            source = self.named(of)
            if "integer" not in source.outputs[name] or (task.of_order and not source.of_order):
                continue
            may_be_missing = (
                source.outputs[name] != "integer"
                or (task.spec.get("join") == "deferred" and bool(source.needs))
                or bool(one.get("when"))
                or source.may_be_skipped
            )
            found.append(
                _Value(
                    f"tasks.{of}.{name}",
                    may_be_missing,
                    lambda s, of=of, name=name: s.outputs(of, name),
                )
            )
        return found

    def condition(self, task: _Task, *, certain: bool = False) -> str:
        values = self.facts(task) + 2 * self.results(task, certain=certain)
        value, least = self.one_of(*values), self.one_of(2, 0, 4, 7)
        text = f"{value.path} > {least}"
        read = value.meaning
        if value.may_be_missing:
            text = f"{value.path} != null && {text}"
        return self.says(text, lambda s: (read(s) is not None) and read(s) > least)

    def mapping(self, task: _Task, *, element: bool = False) -> Spec:
        found = {}
        for value in self.some_of(self.facts(task) + self.results(task), 2):
            end = "?" if value.may_be_missing else ""
            found[value.path.replace(".", "_")] = self.says(
                f"${{{value.path}{end}}}", value.meaning
            )
        if element:
            found["element"] = self.says("${element}", lambda s: s.element)
        return found

    # --- tasks ----------------------------------------------------------------------------------

    def named(self, name: str) -> _Task:
        return next(task for task in self.tasks if task.name == name)

    def write(self, count: int) -> dict[str, Spec]:
        for number in range(count):
            self.tasks.append(self.task(f"{self.prefix}{number}", first=number == 0))
        for task in self.tasks:
            if task.kind == "decide":
                _without(task)
        return {task.name: task.spec for task in self.tasks}

    def task(self, name: str, *, first: bool) -> _Task:
        of_order = not self.is_part and self.maybe(15)
        creators = [one for one in self.tasks if one.slots and (one.of_order or not of_order)]
        creator = self.one_of(*creators) if creators and self.maybe(60) else None
        required = first or (self.maybe(75) and (creator is None or creator.required))
        task = _Task(name, of_order, required)
        task.spec = {"title": name, "scope": "order" if of_order else "item"}
        if self.is_part:
            del task.spec["scope"]
        task.spec["required"] = required
        if creator is not None:
            _rename(creator, creator.slots.pop(0), name)
            task.needs[creator.name] = frozenset({name})
        if self.maybe(25):
            task.spec["join"] = "deferred"
        self.depend(task)
        self.settle_join(task)
        kinds = ["command"] * 5 + ["decide"] * 3 + ["wait"] * 2 + ["manual"]
        if self.parts:
            kinds += ["use"] * 2
        task.kind = self.one_of(*kinds)
        if self.maybe(12):
            task.spec["only_if"] = self.condition(task)
            task.may_be_skipped = True
        if self.maybe(6):
            check = self.condition(task)
            task.spec["preconditions"] = [{"check": check, "message": "It must not be."}]
        getattr(self, f"as_{task.kind}")(task)
        return task

    def depend(self, task: _Task) -> None:
        sources = [one for one in self.tasks if one.required or not task.required]
        needs = task.spec["depends_on"] = []
        for source in self.some_of(sources[-5:], 3):
            need: Spec = {"success": source.name}
            outcomes = _proceeding(source)
            if len(outcomes) > 1 and self.maybe(60):
                chosen = self.some_of(outcomes, 2) or outcomes[:1]
                need = {"human": source.name, "outcomes": chosen}
            elif source.outputs and self.maybe(60):
                name = self.one_of(*source.outputs)
                need = {"output": f"{source.name}.{name}"}
                if _expires(source, name) and self.maybe(80):
                    need["expired"] = "reobtain"
            needs.append(need)
        for need in needs:
            certain = not self.named(_of(need)).needs or task.spec.get("join") == "deferred"
            if "human" not in need and certain and self.maybe(20):
                need["when"] = "something"
        for need in needs:
            if "when" in need:
                need["when"] = self.condition(task, certain=True)
        if self.maybe(10):
            otherwise = self.one_of("escalate", "fail", "continue")
            within = self.one_of("PT2H30M", "PT30M", "PT6H30M")
            milestone = self.one_of(*MILESTONES)
            needs.append({"milestone": milestone, "within": within, "otherwise": otherwise})
        plain = not any(self.named(_of(one)).needs for one in needs if _of(one))
        if sources and plain and self.maybe(10):
            after = self.one_of(*sources)
            if not after.needs and not any("human" in one for one in needs):
                delay = self.one_of("PT30M", "PT1H30M", "PT3H30M")
                needs.append({"after": after.name, "delay": delay})
        if not self.is_part and not task.of_order and self.maybe(6):
            needs.append({"until": self.soon()})

    def soon(self) -> str:
        return self.says("${item.characteristics.soon}", lambda s: s.item["soon"])

    def settle_join(self, task: _Task) -> None:
        """It waits for all only if all of that can come to exist together."""
        creators = [self.named(name) for name in task.needs]
        task.needs |= self.outcomes_for(task)
        deciding = [self.named(name) for name in task.needs]
        if self.can_be(self.together(task, deciding)):
            task.needs = self.together(task, deciding)
        else:
            task.spec["depends_on"] = [one for one in task.spec["depends_on"] if "human" not in one]
            task.needs = {one.name: task.needs[one.name] for one in creators}
            task.needs = self.together(task, creators)
        if task.spec.get("join") == "deferred":
            return
        upstream = [self.named(_of(one)) for one in task.spec["depends_on"] if _of(one)]
        together = self.together(task, creators + upstream)
        if self.can_be(together):
            task.needs = together
        else:
            task.spec["join"] = "deferred"

    def outcomes_for(self, task: _Task) -> dict[str, frozenset[str]]:
        return {
            one["human"]: frozenset(one["outcomes"])
            for one in task.spec["depends_on"]
            if "human" in one and set(one["outcomes"]) != set(_proceeding(self.named(one["human"])))
        }

    def together(self, task: _Task, upstream: list[_Task]) -> dict[str, frozenset[str]]:
        """What has to be chosen so that all of them exist."""
        found = dict(task.needs)
        for source in upstream:
            for chooser, labels in source.needs.items():
                if self.named(chooser).kind == "manual":
                    found[chooser] = found.get(chooser, labels) & labels
                else:
                    found[chooser] = found.get(chooser, frozenset()) | labels
        return found

    def can_be(self, choices: dict[str, frozenset[str]]) -> bool:
        return all(self.can_choose(name, labels) for name, labels in choices.items())

    def can_choose(self, name: str, labels: frozenset[str]) -> bool:
        chooser = self.named(name)
        if chooser.kind == "manual":
            return bool(labels)
        decide = chooser.spec["decide"]
        if isinstance(decide, dict):
            return True
        return any(labels <= set(rule.get("create", rule.get("otherwise"))) for rule in decide)

    # --- kinds ----------------------------------------------------------------------------------

    def as_command(self, task: _Task) -> None:
        task.spec |= {
            "target": self.one_of("alpha", "beta"),
            "action": f"do_{task.name}",
            "compensation": {"none": "Nothing to undo."},
            "timeouts": {"callback": "PT2H30M"},
            "retry": {"maximum_attempts": self.one_of(2, 1, 3), "initial_interval": "PT0.1S"},
        }
        if self.maybe(75):
            task.spec["outputs"] = {"n": "integer"}
            task.outputs["n"] = "integer"
            if self.maybe(15):
                task.spec["outputs"]["m"] = {"type": "integer", "optional": True}
                task.outputs["m"] = "integer?"
        element = self.maybe(30) and self.fan_out(task)
        if task.outputs and not element and self.maybe(40):
            task.spec["outputs"] |= {
                "n": {"type": "integer", "valid_until": "until"},
                "until": "string",
            }
        if self.maybe(15):
            task.spec["window"] = self.window()
        task.spec["input"] = self.mapping(task, element=element)
        if self.maybe(25):
            task.spec["fallback"] = [
                {
                    "target": self.one_of("beta", "alpha"),
                    "action": f"otherwise_{task.name}",
                    "input": self.mapping(task, element=element),
                    "unless": self.some_of(("refused", "busy", "bad_request"), 1),
                }
                for _ in range(self.one_of(1, 1, 2))
            ]

    def window(self) -> Spec:
        """Open so many hours from the start on, and again every day but some; see `in_full`."""
        return {
            "opens": self.one_of(1.5, -2.5, -20.5),
            "hours": self.one_of(7, 19, 12),
            "but": self.one_of([], [0], [-1, 0], [0, 1]),
            "weekly": self.one_of(True, False),
            "timezone": self.one_of(*ZONES),
        }

    def fan_out(self, task: _Task) -> bool:
        """One per element of a list that is known, or that somebody has returned."""
        for need in task.spec["depends_on"]:
            need.pop("expired", None)  # Elements can't have it obtained anew.
        source = self.list_source(task, "parts")
        known = not self.is_part and not task.of_order
        if source is not None and (not known or self.maybe(60)):
            text = self.says(f"${{tasks.{source}.parts}}", lambda s: s.outputs(source, "parts"))
        elif known:
            text = self.says("${item.characteristics.list}", lambda s: s.item["list"])
        else:
            return False
        task.spec["for_each"] = {
            "over": text,
            "at_once": self.one_of(2, 1, 3),
            "tolerate": self.one_of(0.0, 0.25, 0.34, 0.5, 1.0),
        }
        task.each = True
        task.outputs = dict.fromkeys(task.outputs, "list")
        task.outputs |= {"succeeded": "integer", "failed": "integer"}
        return True

    def list_source(self, task: _Task, name: str) -> str | None:
        """A command before this task that returns a list; it is made to."""
        if task.spec.get("join") == "deferred":
            return None
        needed = [_of(need) for need in task.spec["depends_on"] if not need.get("when")]
        others = [
            one.name
            for one in self.tasks
            if (one.required or not task.required)
            and not _is_conditional(self, one)
            and all(_of(need) != one.name for need in task.spec["depends_on"])
        ]
        for of in (*needed, *others):
            source = self.named(of) if of else None
            if (
                source is None
                or source.kind != "command"
                or source.each
                or source.may_be_skipped
                or source.of_order != task.of_order
            ):
                continue
            source.spec.setdefault("outputs", {})[name] = "list"
            source.outputs[name] = "list"
            wanted = {"output": f"{source.name}.{name}"}
            if wanted not in task.spec["depends_on"]:
                task.spec["depends_on"].append(wanted)
            return source.name
        return None

    def as_decide(self, task: _Task) -> None:
        task.slots = [f"{task.name}?{number}" for number in range(self.one_of(2, 1, 3))]
        source = self.list_source(task, "names") if self.maybe(40) else None
        if source is not None:
            text = self.says(f"${{tasks.{source}.names}}", lambda s: s.outputs(source, "names"))
            task.spec["decide"] = {"names": text, "among": list(task.slots)}
            self.named(source).spec.setdefault("decides", []).append(task.name)
            return
        rules: list[Spec] = [
            {"when": self.condition(task), "create": self.some_of(task.slots, 3)}
            for _ in range(self.one_of(1, 2, 0))
        ]
        # A rule with the condition of one before it is refused: it would never decide.
        rules = list({rule["when"]: rule for rule in rules}.values())
        rest = set(task.slots).difference(*(rule["create"] for rule in rules))
        task.spec["decide"] = [
            *rules,
            {"otherwise": sorted(rest | set(self.some_of(task.slots, 1)))},
        ]

    def as_wait(self, task: _Task) -> None:
        kind = self.one_of("milestone", "signal", "other", "delay", "until")
        if kind == "until" and (self.is_part or task.of_order):
            kind = "delay"
        if kind == "delay":
            task.spec["wait"] = {"delay": self.one_of("PT1H30M", "PT30M", "PT4H30M")}
            return
        if kind == "until":
            task.spec["wait"] = {"until": self.soon()}
            return
        otherwise = self.one_of("continue", "escalate", "fail")
        wait: Spec = {"within": self.one_of("PT3H30M", "PT30M", "PT8H30M"), "otherwise": otherwise}
        if kind == "signal":
            wait |= {"signal": SIGNAL, "key": self.one_of(*KEYS)}
        elif kind == "other":
            other = self.says("${order.channel}", lambda s: s.order["channel"])
            wait |= {"milestone": self.one_of(SHARED, *MILESTONES), "order": other}
        else:
            wait |= {"milestone": self.one_of(*MILESTONES, SHARED)}
        if self.maybe(40):
            task.spec["outputs"] = {"n": "integer"}
            task.outputs["n"] = "integer"
            if otherwise == "continue":
                wait["default"] = {"n": 5}
        task.spec["wait"] = wait

    def as_manual(self, task: _Task) -> None:
        outcomes = {"yes": "proceed", "maybe": "proceed", "no": "refuse"}
        task.spec["manual"] = {
            "queue": "desk",
            "role": "clerk",
            "instructions": "Decide.",
            "outcomes": outcomes,
            "within": self.one_of("PT4H30M", "PT30M"),
            "otherwise": self.one_of("escalate", "yes", "maybe", "no"),
        }
        task.outputs = {"outcome": "string"}
        if self.maybe(60):
            optional = task.spec["manual"]["otherwise"] != "escalate"
            task.spec["fields"] = {"n": {"type": "integer", "optional": optional}}
            task.outputs["n"] = "integer?" if optional else "integer"

    def as_use(self, task: _Task) -> None:
        name = self.one_of(*self.parts)
        part = self.parts[name]
        task.spec |= {"use": name}
        if "n" in part["subprocess"]["outputs"]:
            task.spec["outputs"] = {"n": "integer"}
            task.outputs["n"] = "integer"
        fans_out = any("for_each" in one for one in _all_tasks(part, self.parts))
        if not fans_out and self.maybe(50) and self.fan_out(task):
            task.spec["input"] = {"n": self.says("${element}", lambda s: s.element)}
            return
        values = [one for one in self.facts(task) + self.results(task) if not one.may_be_missing]
        value = self.one_of(*values)
        task.spec["input"] = {"n": self.says(f"${{{value.path}}}", value.meaning)}

    # --- sub-processes --------------------------------------------------------------------------

    def part(self, name: str, prefix: str, count: int) -> None:
        inner = _Author(f"{self.seed} {name}", self.meanings, prefix)
        inner.parts = dict(self.parts)
        tasks = inner.write(count)
        certain = [
            one
            for one in inner.tasks
            if one.kind == "command"
            and one.outputs.get("n") == "integer"
            and one.required
            and not one.may_be_skipped
            and not _is_conditional(inner, one)
        ]
        outputs = {}
        if certain and self.maybe(80):
            of = self.one_of(*certain).name
            text = self.says(f"${{tasks.{of}.n}}", lambda s: s.outputs(of, "n"))
            outputs = {"n": {"type": "integer", "value": text}}
        self.parts[name] = {
            "workflow": name,
            "version": 1,
            "title": "A part",
            "subprocess": {"inputs": {"n": "integer"}, "outputs": outputs},
            "tasks": tasks,
        }


def _of(need: Mapping[str, Any]) -> str:
    """The task that a dependency points at."""
    return str(need.get("success") or need.get("human") or need.get("output", "").partition(".")[0])


def _expires(task: _Task, name: str) -> bool:
    declared = task.spec.get("outputs", {}).get(name)
    return isinstance(declared, dict) and "valid_until" in declared


def _proceeding(task: _Task) -> list[str]:
    outcomes = task.spec.get("manual", {}).get("outcomes", {})
    return [name for name, does in outcomes.items() if does == "proceed"]


def _is_conditional(author: _Author, task: _Task) -> bool:
    sources = [author.named(_of(one)) for one in task.spec["depends_on"] if _of(one)]
    behind = task.spec.get("join") != "deferred" and any(
        _is_conditional(author, one) for one in sources
    )
    return bool(task.needs) or behind


def _all_tasks(part: Spec, parts: Mapping[str, Spec]) -> list[Spec]:
    found = list(part["tasks"].values())
    return found + [
        inner for one in found if "use" in one for inner in _all_tasks(parts[one["use"]], parts)
    ]


def _rename(decision: _Task, old: str, new: str) -> None:
    decide = decision.spec["decide"]
    lists = [decide["among"]] if isinstance(decide, dict) else []
    if not lists:
        lists = [rule.get("create", rule.get("otherwise")) for rule in decide]
    for names in lists:
        names[:] = [new if name == old else name for name in names]


def _without(decision: _Task) -> None:
    """Leave out the branches that nobody has written."""
    decide = decision.spec["decide"]
    if isinstance(decide, dict):
        decide["among"] = [name for name in decide["among"] if "?" not in name]
        if not decide["among"]:
            decision.spec["decide"] = [{"otherwise": []}]
        return
    for rule in decide:
        key = "create" if "create" in rule else "otherwise"
        rule[key] = [name for name in rule[key] if "?" not in name]


def template(*, seed: str, tasks: int) -> Template:
    """A template of so many tasks; of the same seed, fewer are the first of them."""
    meanings: dict[str, Meaning] = {}
    author = _Author(seed, meanings)
    for name, prefix in author.one_of((), (("part", "p"),), (("part", "p"), ("whole", "q"))):
        author.part(name, prefix, author.one_of(1, 2, 3, 4))
    written = author.write(tasks)
    for spec in (
        *written.values(),
        *(one for part in author.parts.values() for one in part["tasks"].values()),
    ):
        spec.pop("decides", None)
    used = {one["use"] for one in _all_tasks({"tasks": written}, author.parts) if "use" in one}
    parts = {name: part for name, part in author.parts.items() if name in used}
    shared = {SHARED: author.one_of(*written)} if author.maybe(50) else {}
    return Template(written, parts, meanings, shared)
