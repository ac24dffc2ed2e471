r"""The judge of a run: reads what happened and lists every broken promise.

    python -m tests.chaos.checker --database URL [--ledger FILE] [--log FILE] \
        [--people FILE …] [--during]

A program of its own: plain SQL over the engine's database, the ledger of the target systems, and
the logs of the client that submitted the orders and of the people who decided, reported, cancelled
and amended. Exit code 1 when there is a violation.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.chaos import (
    rules_effects,
    rules_endings,
    rules_flow,
    rules_history,
    rules_limits,
    rules_undo,
)
from tests.chaos.evidence import Evidence, Violation, collected

Rule = Callable[[Evidence], Iterator[Violation]]

ALWAYS: Sequence[Rule] = (
    rules_effects.one_effect_per_key,
    rules_effects.nothing_is_lost,
    rules_history.every_change_is_audited_once,
    rules_history.nothing_hangs_in_the_air,
    rules_history.every_change_is_legal,
    rules_limits.nothing_is_sent_under_a_hold,
    rules_limits.nothing_is_sent_for_a_plan_that_is_over,
    rules_limits.nothing_is_sent_before_what_it_needs,
    rules_limits.limits_are_kept,
    rules_endings.completed_means_done,
    rules_endings.counters_are_right,
    rules_flow.decisions_create_their_branches,
    rules_flow.lists_are_worked_through_once,
    rules_flow.people_decide_once,
    rules_flow.reports_are_kept_and_told_once,
    rules_undo.what_is_given_up_is_undone_once,
    rules_undo.what_depends_is_undone_before,
    rules_undo.nothing_happens_after_it_is_given_up,
    rules_undo.orders_end_as_their_plans,
    rules_undo.requests_stand,
)
"""What holds at every moment, also while processes die."""
AT_THE_END: Sequence[Rule] = (
    rules_history.the_chain_holds,
    rules_effects.succeeded_has_its_effect,
    rules_effects.every_report_is_applied_once,
    rules_endings.every_order_ends_or_has_a_case,
    rules_endings.nothing_is_left_open,
    rules_endings.every_event_is_sent,
    rules_flow.no_report_is_left_untold,
    rules_undo.nothing_is_left_over,
    rules_undo.every_request_is_decided,
)
"""What holds once everything has come to rest."""
LOST = frozenset({"lost"})
DUPLICATES = frozenset(
    {
        *("one-effect-per-key", "one-effect-per-place", "order-twice", "dispatched-twice"),
        *("ended-twice", "decided-once", "undone-once"),
    }
)
STUCK = frozenset({"stuck", "no-case", "attempt-open", "undecided", "held-for-ever"})


def check(evidence: Evidence, *, at_the_end: bool = True) -> list[Violation]:
    """Every violation, by rule; an empty list when all promises are kept."""
    rules = (*ALWAYS, *AT_THE_END) if at_the_end else ALWAYS
    return [violation for rule in rules for violation in rule(evidence)]


def counted(violations: Sequence[Violation]) -> dict[str, int]:
    """How many orders or effects are lost, duplicated, stuck; and what else is wrong."""
    by_rule = Counter(violation.rule for violation in violations)
    named = {
        "lost": sum(by_rule[rule] for rule in LOST),
        "duplicates": sum(by_rule[rule] for rule in DUPLICATES),
        "stuck": sum(by_rule[rule] for rule in STUCK),
    }
    return {**named, "others": sum(by_rule.values()) - sum(named.values())}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.checker", description=__doc__)
    parser.add_argument("--database", required=True, help="postgresql://… of the engine")
    parser.add_argument("--ledger", type=Path, help="SQLite file of the sandbox")
    parser.add_argument("--log", type=Path, help="JSON lines of the submitting client")
    parser.add_argument("--people", type=Path, nargs="*", default=(), help="the same of people")
    parser.add_argument("--during", action="store_true", help="the run is not over yet")
    parser.add_argument("--hold-slack", type=float, default=0.25, metavar="SECONDS")
    options = parser.parse_args()
    with collected(
        database_url=options.database,
        ledger=options.ledger,
        client_log=options.log,
        people_logs=options.people,
        hold_slack_seconds=options.hold_slack,
    ) as evidence:
        violations = check(evidence, at_the_end=not options.during)
        seen = rules_limits.summarised(evidence)
    for violation in violations:
        print(violation)
    print("checked: " + " ".join(f"{name}={number}" for name, number in seen.items()))
    print("found:   " + " ".join(f"{name}={n}" for name, n in counted(violations).items()))
    sys.exit(bool(violations))


if __name__ == "__main__":
    main()
