"""What the search has really come across: a search that never tries something proves nothing.

What is written is counted by the documents of the templates, what happens by the audit trail of
their orders, so neither asks the model. Each feature counts once per example.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fulfillment.models import Transition

Document = Mapping[str, Any]


def _says(*keys: str) -> Callable[[Document], bool]:
    """Some dictionary in the task, however deep, has all of these keys."""
    return lambda spec: any(set(keys) <= found.keys() for found in _dictionaries(spec))


def _behind_a_decision(tasks: Mapping[str, Document]) -> bool:
    deciding = {name for name, spec in tasks.items() if "decide" in spec}
    created = {
        name
        for one in deciding
        for rule in _dictionaries(tasks[one]["decide"])
        for key in ("create", "otherwise", "among")
        for name in rule.get(key, ())
    }
    return bool(deciding & created)


def _dictionaries(value: Any) -> Iterator[Document]:
    if isinstance(value, Mapping):
        yield value
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for one in value:
            yield from _dictionaries(one)


def _needs(spec: Document, *keys: str) -> bool:
    return any(set(keys) <= one.keys() for one in spec.get("depends_on", ()))


def _rules(spec: Document) -> list[Document]:
    decide = spec.get("decide", ())
    return [] if isinstance(decide, Mapping) else list(decide)


def _ends(spec: Document, otherwise: str) -> bool:
    return any(wait.get("otherwise") == otherwise for wait in _waits(spec))


def _waits(spec: Document) -> list[Document]:
    return [one for one in (spec.get("wait", {}), *spec.get("depends_on", ())) if "within" in one]


WRITTEN: dict[str, Callable[[Document], bool]] = {
    "needs a success": lambda t: _needs(t, "success"),
    "needs an output": lambda t: _needs(t, "output"),
    "needs an outcome of a person": lambda t: _needs(t, "human"),
    "needs something under a condition": lambda t: _needs(t, "when"),
    "needs a milestone": lambda t: _needs(t, "milestone"),
    "needs time after a task": lambda t: _needs(t, "after"),
    "needs an instant": lambda t: _needs(t, "until"),
    "waits for a milestone": lambda t: "milestone" in t.get("wait", {}),
    "waits for another order": lambda t: "order" in t.get("wait", {}),
    "waits for a signal": lambda t: "signal" in t.get("wait", {}),
    "waits for an instant": lambda t: "until" in t.get("wait", {}),
    "waits for a while": lambda t: "delay" in t.get("wait", {}),
    "a wait that escalates": lambda t: _ends(t, "escalate"),
    "a wait that fails": lambda t: _ends(t, "fail"),
    "a wait that goes on": lambda t: _ends(t, "continue"),
    "decides by rules": lambda t: len(_rules(t)) > 1,
    "decides by names": lambda t: isinstance(t.get("decide"), Mapping),
    "may decide for no branch": lambda t: any(
        [] in (rule.get("create"), rule.get("otherwise")) for rule in _rules(t)
    ),
    "a deferred join": lambda t: t.get("join") == "deferred",
    "a fan-out": _says("for_each"),
    "a fan-out over a returned list": lambda t: "tasks." in str(t.get("for_each")),
    "a fan-out over a list of the order": lambda t: "item." in str(t.get("for_each")),
    "a fan-out that tolerates failures": lambda t: t.get("for_each", {}).get("tolerate", 0) > 0,
    "a sub-process": _says("use"),
    "a sub-process for each element": _says("use", "for_each"),
    "a fallback": _says("fallback"),
    "two fallbacks": lambda t: len(t.get("fallback", ())) > 1,
    "a fallback but for some codes": _says("unless"),
    "a person": _says("manual"),
    "a person with a form": _says("manual", "fields"),
    "preconditions": _says("preconditions"),
    "skipped by a condition": _says("only_if"),
    "optional": lambda t: t.get("required") is False,
    "of the whole order": lambda t: t.get("scope") == "order",
    "a window": _says("window"),
    "an optional output": _says("type", "optional"),
    "an output that expires": _says("valid_until"),
    "obtains anew what has expired": _says("expired"),
}


TOGETHER: dict[str, Callable[[Document], bool]] = {
    "a decision behind a decision": lambda of: _behind_a_decision(of["tasks"]),
    "a fan-out inside a sub-process": lambda of: (
        "subprocess" in of and any(map(_says("for_each"), of["tasks"].values()))
    ),
    "a sub-process inside a sub-process": lambda of: (
        "subprocess" in of and any(map(_says("use"), of["tasks"].values()))
    ),
    "a milestone that others may wait for": lambda of: bool(of.get("milestones")),
}


def _said(name: str, cause: str = "", code: str = "") -> Callable[[Transition], bool]:
    return lambda row: (
        row.entity == "task"
        and row.name == name
        and bool(re.search(cause, row.cause))
        and row.details.get("code", "") == (code or row.details.get("code", ""))
    )


def _early(row: Transition) -> bool:
    return _said("succeed", "it has been reported")(row) and not row.actor.startswith("signals")


def _late(row: Transition) -> bool:
    return _said("succeed", "it has been reported")(row) and row.from_state == "AWAITING_MANUAL"


HAPPENED: dict[str, Callable[[Transition], bool]] = {
    "one branch created": _said("conclude", r"^decided: \w+$"),
    "several branches created": _said("conclude", "^decided: .*,"),
    "no branch created": _said("conclude", "^decided: none"),
    "a condition left a task out": _said("skip", "it is not the case"),
    "what belongs to it left out": _said("skip", "is left out"),
    "an optional task given up": _said("skip", "^optional"),
    "a precondition did not hold": _said("await_manual", "precondition"),
    "a value missing or senseless": _said("await_manual", "could not be"),
    "spread over elements": _said("conclude", "[1-9] elements"),
    "spread over nothing": _said("conclude", "^0 elements"),
    "gathered": _said("conclude", "every element has ended"),
    "too many elements failed": _said("give_up"),
    "failed elements rerun": _said("reopen"),
    "a failed task tried again by hand": _said("try_again"),
    "another way taken": _said("fall_back"),
    "no effect, tried again": _said("retry_later", "no effect"),
    "attempts used up": _said("fail", "attempts are used up"),
    "refused": _said("fail", "refused it"),
    "track lost": _said("lose_track", "whether it happened"),
    "sent again, asked: never seen": _said("send_again", "has never seen"),
    "sent again, deduplicated": _said("send_again", "deduplicates"),
    "only a person can tell": _said("await_manual", "only a person"),
    "taken on, report to come": _said("accept"),
    "no report in time": _said("lose_track", code="report_overdue"),
    "outputs that don't fit": _said("await_manual", "confirmed with outputs"),
    "waited for a report": _said("begin_waiting", "^for "),
    "waited for a time": _said("begin_waiting", "^until "),
    "a time that was past": _said("conclude", "its time has come"),
    "a time that came": _said("succeed", "its time has come"),
    "reported while waited for": _said("succeed", "it has been reported"),
    "reported early": _early,
    "reported after the deadline": _late,
    "reported with values that don't fit": _said("await_manual", "reported with"),
    "not reported: a person told": _said("await_manual", "not been reported"),
    "not reported: failed": _said("fail", "not been reported"),
    "not reported: went on": _said("succeed", "goes on without"),
    "a person decided": _said("succeed", "^ann decided"),
    "a person refused": _said("fail", "^ann decided"),
    "nobody decided: proceeded": _said("succeed", "^deadline decided"),
    "nobody decided: refused": _said("fail", "^deadline decided"),
    "expired: a person told": _said("await_manual", "^expired"),
    "expired before it was sent": _said("send_back"),
}


NOTED = (
    "a report twice",
    "a report twice, as another event",
    "a report of what has ended",
    "a signal twice",
    "the clock jumps",
    "a form not filled in",
    "only failed elements run again",
)
"""What whoever drives the example notes."""
RARE = (
    "expired: a person told",
    "expired before it was sent",
    "a form not filled in",
    "reported with values that don't fit",
)
ALL = (*WRITTEN, *TOGETHER, *HAPPENED, *NOTED)


@dataclass
class Census:
    examples: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def take(self, documents: Iterable[Document], noted: Iterable[str]) -> None:
        """One example is over, and its audit trail still there."""
        documents = list(documents)
        specs = [spec for document in documents for spec in document["tasks"].values()]
        rows = list(Transition.objects.all())
        seen = {name for name, says in WRITTEN.items() if any(map(says, specs))}
        seen |= {name for name, says in TOGETHER.items() if any(map(says, documents))}
        seen |= {name for name, happened in HAPPENED.items() if any(map(happened, rows))}
        seen |= {f"{row.entity} {row.to_state}" for row in rows if row.entity == "plan"}
        self.found.update(seen | set(noted))
        self.examples += 1

    def missing(self) -> list[str]:
        """What no example had in it; what is rare can be expected of long runs only."""
        rare = RARE if self.examples < 1000 else ()
        return [name for name in ALL if not self.found[name] and name not in rare]

    def __str__(self) -> str:
        lines = [f"{self.examples} examples; of these so many with"]
        names = [*ALL, *sorted(self.found.keys() - set(ALL))]
        return "\n".join([*lines, *(f"{self.found[name]:7}  {name}" for name in names)])


census = Census()
