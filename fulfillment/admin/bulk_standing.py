"""What the page of a bulk job says: what comes next, its stages, and what came of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fulfillment.actions import TITLES, Action
from fulfillment.admin.reading import Badge, address_of, badge_of
from fulfillment.authority.authorizing import Reach
from fulfillment.definitions.signs import Sign
from fulfillment.models import (
    BULK_RUNNING,
    BULK_TERMINAL,
    Approval,
    BulkJob,
    BulkRow,
    BulkState,
    Foreseen,
    RowState,
)
from fulfillment.operations import bulk, possible

JOB_SIGNS: Mapping[str, Sign] = {
    BulkState.DRAFT: ("✎", "waiting"),
    BulkState.RUNNING_CANARY: ("▶", "moving"),
    BulkState.RUNNING: ("▶", "moving"),
    BulkState.PAUSED: ("⊖", "trouble"),
    BulkState.STOPPED: ("!", "failed"),
    BulkState.COMPLETED: ("✓", "done"),
    BulkState.CANCELLED: ("○", "waiting"),
}
ROW_SIGNS: Mapping[str, Sign] = {
    RowState.PENDING: ("•", "waiting"),
    RowState.LEFT_OUT: ("○", "waiting"),
    RowState.DONE: ("▶", "moving"),
    RowState.REFUSED: ("⊘", "trouble"),
    RowState.FAILED: ("✗", "failed"),
    RowState.VERIFIED: ("✓", "done"),
    RowState.NOT_VERIFIED: ("!", "failed"),
}
ROW_WORDS: Mapping[str, str] = {
    RowState.PENDING: "not done yet",
    RowState.LEFT_OUT: "left out",
    RowState.DONE: "done, result awaited",
    RowState.REFUSED: "refused, nothing done",
    RowState.FAILED: "the engine failed",
    RowState.VERIFIED: "verified",
    RowState.NOT_VERIFIED: "did not come about",
}
_FORESEEN: Mapping[str, tuple[str, str, str]] = {
    Foreseen.UNSEEN: ("…", "waiting", "not looked at yet"),
    Foreseen.POSSIBLE: ("✓", "waiting", "can be done"),
    Foreseen.IMPOSSIBLE: ("⊘", "trouble", "can't be done"),
    Foreseen.DENIED: ("⊘", "failed", "not allowed"),
}
_NEXT = frozenset({"start", "resume", "leave-out"})
"""What goes on with it; of a job that has stopped, why has to be found out first."""
_SHOWN = 25
"""Rows on the page; the others are in the list of rows."""
_STANDING = frozenset({BulkState.PAUSED, BulkState.STOPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Something that may be done to a job, as a button."""

    name: str
    words: str
    told: str
    """What it does, on the page that asks why."""
    states: frozenset[str]
    action: Action = Action.BULK_CONTROL


CONTROLS = {
    one.name: one
    for one in (
        Control(
            name="start",
            words="Start it",
            told="It begins with the canary, under your authority, and waits until it is known "
            "what came of that.",
            states=frozenset({BulkState.DRAFT}),
            action=Action.BULK_START,
        ),
        Control(
            name="leave-out",
            words="Leave out what can't be done",
            told="The rows that can't be done are taken out of the draft; nothing is done to them.",
            states=frozenset({BulkState.DRAFT}),
        ),
        Control(
            name="look-again",
            words="Look at all rows again",
            told="Each row is looked at anew: what would be done to it now?",
            states=frozenset({BulkState.DRAFT}),
        ),
        Control(
            name="resume",
            words="Let it go on",
            told="It goes on with the next stage, or with the rest of this one. What has failed "
            "so far does not count any more.",
            states=_STANDING,
        ),
        Control(
            name="pause",
            words="Pause it",
            told="Nothing more of it is done until somebody lets it go on.",
            states=frozenset(BULK_RUNNING),
        ),
        Control(
            name="cancel",
            words="Cancel it",
            told="What was not done yet stays as it is; what was done stays done. It can't be "
            "taken up again.",
            states=frozenset(BulkState) - BULK_TERMINAL,
        ),
    )
}


def in_words(job: BulkJob) -> str:
    """What the job does, as its action says it."""
    return TITLES[Action(job.action)] if job.action in set(Action) else job.action


def told_of(counts: bulk.Counts) -> str:
    """Its rows by what has come of them."""
    found = counts.by_state
    return ", ".join(f"{found[state]:,} {ROW_WORDS[state]}" for state in _ORDER if state in found)


def progress_bar(job: BulkJob, counts: bulk.Counts) -> SafeString:
    """How far a job is, as a bar and below it in words; of a draft the words alone."""
    words = told_of(counts)
    if not counts.tried:
        return format_html('<span class="work-title">{}</span>', words)
    verified, awaited = (counts.by_state.get(one, 0) for one in (RowState.VERIFIED, RowState.DONE))
    parts = bar_parts(
        of=counts.total,
        verified=verified,
        failed=counts.tried - verified - awaited,
        awaited=awaited,
    )
    shown = format_html_join(
        "", '<span class="work-part work-{}" style="width: {}%"></span>', parts
    )
    return format_html(
        '<span class="work-bar" aria-hidden="true">{}</span><span class="work-more">{}</span>',
        shown,
        words,
    )


def bar_parts(*, of: int, verified: int, failed: int, awaited: int) -> list[tuple[str, str]]:
    """The parts of a bar that are not empty: a tone, and a width in percent."""
    counted = (("done", verified), ("failed", failed), ("moving", awaited))
    return [(tone, f"{number * 100 / of:.2f}") for tone, number in counted if number]


def standing_of(*, job: BulkJob, reach: Reach, which: str) -> dict[str, Any]:
    """All that the template shows: for whoever reaches this far, and of the rows `which`
    (`bulk.worst_first`). A fixed number of queries."""
    now = bulk.progress_of(job=job)
    is_draft = job.state == BulkState.DRAFT
    asked = bulk.open_approval(job) if is_draft else None
    rows = bulk.worst_first(job=job, which=which, at_most=_SHOWN + 1)
    names = bulk.names_of(rows)
    return {
        "does": in_words(job),
        "badges": [badge_of(job.state, JOB_SIGNS)],
        "now": now,
        "asked": asked,
        "is_draft": is_draft,
        "next_words": _next_words(job, now, asked),
        "buttons": _buttons(reach, job, now, asked),
        "stages": [stage_shown(stage) for stage in now.stages],
        "filters": _filters(job, now, which),
        "rows": [_row_shown(row, names, is_draft=is_draft) for row in rows[:_SHOWN]],
        "has_more": len(rows) > _SHOWN,
        "which_state": which if which in ROW_WORDS else "",
        "live_every": 3 if job.state in BULK_RUNNING or now.counts.unseen else 10,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Button:
    words: str
    address: str
    is_next: bool


def _buttons(
    reach: Reach, job: BulkJob, now: bulk.Progress, asked: Approval | None
) -> list[_Button]:
    """What this person may do to it as it stands; what comes next first."""
    found = []
    subject = f"bulk:{job.pk}"
    may = {one.action for one in possible(subject=subject, held=reach.held, reach=reach)}
    for control in CONTROLS.values():
        if job.state not in control.states or control.action not in may:
            continue
        counts = now.counts
        is_ready = bool(job.digest) and not counts.impossible and bool(counts.total)
        if control.name == "start" and (not is_ready or asked):
            continue
        if control.name == "leave-out" and not counts.impossible:
            continue
        if control.name == "look-again" and counts.unseen:
            continue
        address = reverse(f"admin:fulfillment_bulkjob_{control.name}", args=[job.pk])
        is_next = control.name in _NEXT and job.state != BulkState.STOPPED
        found.append(
            _Button(words=_button_words(job, now, control), address=address, is_next=is_next)
        )
    return found


def _button_words(job: BulkJob, now: bulk.Progress, control: Control) -> str:
    if control.name == "start" and now.stages:
        return f"Start with {now.stages[0].size:,} of {now.counts.total:,}"
    if control.name == "resume":
        here = now.stages[job.stage]
        ahead = now.stages[job.stage + 1 : job.stage + 2]
        if here.is_over and ahead:
            return f"Go on up to row {ahead[0].last:,} of {job.ends[-1]:,}"
    if control.name == "leave-out":
        return f"Leave out the {now.counts.impossible:,} that can't be done"
    return control.words


def _next_words(job: BulkJob, now: bulk.Progress, asked: Approval | None) -> str:
    """Where it stands and what comes next, for whoever has never seen one."""
    counts = now.counts
    if job.state == BulkState.DRAFT:
        if counts.unseen:
            return (
                f"Nothing is done yet. Each row is looked at first: what would be done to it? "
                f"{now.seen:,} of {counts.total:,} are looked at."
            )
        if counts.impossible:
            return (
                f"Nothing is done yet. For {counts.impossible:,} of {counts.total:,} it can't be "
                "done; the rows below say why. Leave them out, or look at all rows again."
            )
        if asked:
            return (
                f"Nothing is done yet: somebody else, who holds {asked.needs}, has to approve "
                "it. It begins when they do."
            )
        return (
            f"Nothing is done yet. All {counts.total:,} can be done. It begins with a few, the "
            "canary, and waits until it is known what came of them."
        )
    if job.state == BulkState.RUNNING_CANARY:
        return (
            "The canary: a few rows first. No other row is touched before it is known how they end."
        )
    if job.state == BulkState.RUNNING:
        return f"Stage {job.stage} of {len(job.ends) - 1} is being done."
    if job.state == BulkState.CANCELLED:
        return "It was cancelled. What was done stays done; the other rows stay as they were."
    return job.state_reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShown:
    """A stage as tables show it."""

    stage: bulk.Stage
    name: str
    words: str
    badge: Badge
    parts: Sequence[tuple[str, str]]
    """Of its bar: a tone, and a width in percent."""


def stage_shown(stage: bulk.Stage) -> StageShown:
    """A stage with its words, its badge and the parts of its bar."""
    told = [
        f"{number:,} {words}"
        for number, words in (
            (stage.verified, "verified"),
            (stage.failed, "failed"),
            (stage.awaited, "done, result awaited"),
        )
        if number
    ]
    if stage.is_over:
        sign = ("✓", "done", "over") if not stage.failed else ("!", "trouble", "over")
    elif stage.is_now:
        sign = ("▶", "moving", "now")
    else:
        sign = ("•", "waiting", "later")
    if not stage.is_over and not stage.is_now and told:
        sign = ("○", "waiting", "ended early")
    return StageShown(
        stage=stage,
        name="Canary" if stage.number == 0 else f"Stage {stage.number}",
        words=f"{', '.join(told)} of {stage.size:,}" if told else f"{stage.size:,} wait",
        badge=Badge(sign=sign[0], tone=sign[1], words=sign[2]),
        parts=bar_parts(
            of=stage.size,
            verified=stage.verified,
            failed=stage.failed,
            awaited=stage.awaited,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    words: str
    address: str
    is_here: bool


def _filters(job: BulkJob, now: bulk.Progress, which: str) -> list[_Filter]:
    counts = now.counts
    offered: list[tuple[str, str, int]] = [("", "worst first", sum(counts.by_state.values()))]
    if job.state == BulkState.DRAFT:
        pending = counts.by_state.get(RowState.PENDING, 0)
        offered += [
            ("impossible", "can't be done", counts.impossible),
            ("possible", "can be done", pending - counts.impossible - counts.unseen),
            ("unseen", "not looked at yet", counts.unseen),
            (RowState.LEFT_OUT, "left out", counts.by_state.get(RowState.LEFT_OUT, 0)),
        ]
    else:
        offered += [
            (state, words, counts.by_state.get(state, 0))
            for state, words in sorted(ROW_WORDS.items(), key=lambda one: _ORDER.index(one[0]))
        ]
    return [
        _Filter(
            words=f"{words} {number:,}",
            address=f"?rows={name}" if name else "?",
            is_here=which == name,
        )
        for name, words, number in offered
        if number or name in ("", which)
    ]


_ORDER = (
    *(RowState.FAILED, RowState.NOT_VERIFIED, RowState.REFUSED, RowState.DONE),
    *(RowState.VERIFIED, RowState.PENDING, RowState.LEFT_OUT),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowShown:
    row: BulkRow
    name: str
    address: str
    badge: Badge
    told: str


def _row_shown(row: BulkRow, names: Mapping[str, str], *, is_draft: bool) -> _RowShown:
    if row.state == RowState.PENDING and is_draft:
        sign, tone, words = _FORESEEN[row.foreseen]
    else:
        sign, tone = ROW_SIGNS[row.state]
        words = ROW_WORDS[row.state]
    return _RowShown(
        row=row,
        name=names.get(row.subject, row.subject),
        address=address_of(row.subject),
        badge=Badge(sign=sign, tone=tone, words=words),
        told=row.told or (row.foretold if is_draft else ""),
    )
