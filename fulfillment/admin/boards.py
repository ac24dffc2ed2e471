"""The targets board and the lock board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fulfillment.admin.locks import breakable, shown_kept, shown_line
from fulfillment.admin.pages import Page
from fulfillment.admin.reading import list_address
from fulfillment.admin.target_cards import cards
from fulfillment.models import Resource, ResourceLock
from fulfillment.queries.lines import lock_board
from fulfillment.queries.systems import Health, Level, health


class Targets(Page):
    name = "targets"
    title = "Targets"
    told = "The systems that carry out orders: how each of them does now, those in trouble first."
    permissions = ("fulfillment.view_targetsystem",)
    live_seconds = 10
    template_name = "desk/boards/targets.html"

    def content(self) -> Mapping[str, Any]:
        found = cards(self.request, health())
        return {
            "groups": [
                (words, some)
                for words, levels in (
                    ("In trouble", {Level.FAILING, Level.STOPPED}),
                    ("They go on", {Level.BUSY, Level.WELL}),
                )
                if (some := [card for card in found if card.health.level in levels])
            ],
            "summary": list(_summary([card.health for card in found])),
        }


def _summary(found: Sequence[Health]) -> Iterator[str]:
    """The whole board in a few words."""
    for level, words in (
        (Level.FAILING, "failing"),
        (Level.STOPPED, "paused or held"),
        (Level.BUSY, "at their limit"),
        (Level.WELL, "well"),
    ):
        if count := sum(one.level is level for one in found):
            yield f"{count:,} {words}"
    if waiting := sum(one.status.waiting for one in found):
        yield f"{waiting:,} commands wait to be sent"


class Locks(Page):
    name = "locks"
    title = "Locks"
    told = "What orders keep for themselves while they work on it, and who waits in line for it."
    permissions = ("fulfillment.view_resourcelock",)
    live_seconds = 10
    template_name = "desk/boards/locks.html"

    def content(self) -> Mapping[str, Any]:
        asked = self.request.GET.get("kind", "")
        kind = asked if Resource.objects.filter(pk=asked.replace("\0", "")).exists() else ""
        found = lock_board(kind=kind)
        keepers = [
            *(keeper for one in found.lines for keeper in one.keepers),
            *(one.keeper for one in found.kept),
        ]
        may_break = breakable(self.request, keepers)
        return {
            "board": found,
            "kind": kind,
            "lines": [shown_line(one, may_break=may_break) for one in found.lines],
            "kept": [shown_kept(one, may_break=may_break) for one in found.kept],
            "all_locks": list_address(ResourceLock),
            "may_break": bool(may_break),
        }
