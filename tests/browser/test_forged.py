"""What no page offers is not possible either: requests that somebody has written by hand."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.browser.house import House
from tests.browser.operator import Cast, Operator

OPERATE = "/admin/fulfillment/operation/operate"
BY_HAND = json.dumps({"reference": "BY-HAND-1"})
WAIVER = {
    "reason": "It is billed by hand.",
    "evidence": "Ledger 4711",
    "parameter-outputs": BY_HAND,
}

REFUSED = "the page is for those who may do what it is for."


class Waiver:
    """An order that billing has refused, and waiving that: finance may ask, finance-2 approves."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.reference = house.failed(house.name("no_account"))
        self.task = house.task_of(self.reference)
        self.subject = f"task:{self.task}"
        self.path = f"{OPERATE}/task.waive/{self.subject}"
        self._before = self.standing()

    def standing(self) -> list[Any]:
        """All that a waiver would change: the order, its tasks, its case, what was asked for, and
        what target systems have done. That it is stuck is found out in between."""
        order = self._house.order(self.reference)
        graph = self._house.call("GET", f"/orders/{self.reference}/graph")
        asked = self._house.call("GET", "/approvals?limit=200", who="senior")["approvals"]
        return [
            [order[name] for name in ("state", "version", "progress")],
            [(one["task"], one["state"]) for one in graph["nodes"]],
            [(one["id"], one["state"]) for one in self._house.cases(order=self.reference)],
            [(one["id"], one["state"]) for one in asked if one["subject"] == self.subject],
            self._house.effects(self.reference),
        ]

    def is_as_before(self) -> None:
        """Nothing has changed since it was made, or has settled."""
        assert self.standing() == self._before

    def has_settled(self) -> None:
        """From here on this is how it was before."""
        self._before = self.standing()

    def previewed(self, one: Operator) -> dict[str, str]:
        """What the form would send by which this person asks for it."""
        one.open(self.path)
        one.looks_first(
            reason=WAIVER["reason"],
            evidence=WAIVER["evidence"],
            Outputs=WAIVER["parameter-outputs"],
        )
        return one.form()


@pytest.fixture
def waiver(house: House) -> Waiver:
    return Waiver(house)


def decisions(auditor: Operator, *, about: str, since: int = 0) -> list[tuple[str, str, str, str]]:
    """Of the log of decisions, the oldest first: answer, who, what, why."""
    auditor.open(f"/admin/fulfillment/authoritydecision/?q={about}")
    rows = [row[-5:] for row in auditor.rows()]
    found = [(answer, actor, action, why) for answer, actor, action, _, why in reversed(rows)]
    return found[since:]


def test_another_role_is_refused_and_that_is_on_record(
    house: House, people: Cast, waiver: Waiver
) -> None:
    desk, auditor = people("desk"), people("auditor")
    desk.open(f"/admin/orders/{waiver.reference}")
    assert not any("Waive" in words for words in desk.offered())
    assert desk.forge(waiver.path, **WAIVER).status == 403
    # Neither as if it had been previewed.
    assert desk.forge(waiver.path, **WAIVER, seen="0" * 64, version="1").status == 403
    waiver.is_as_before()
    missing = "the permission task.waive is missing; whoever looks after roles can give it."
    assert decisions(auditor, about=waiver.subject) == [
        ("✗ denied", "desk", "task.waive", missing),
        ("✗ denied", "desk", "task.waive", missing),
    ]
    auditor.today()
    auditor.menu("Decisions", folded="Authority")
    auditor.sees(missing)


def test_looking_does_nothing(house: House, people: Cast, waiver: Waiver) -> None:
    finance, auditor = people("finance"), people("auditor")
    written = waiver.previewed(finance)
    assert {*WAIVER, "seen", "version"} <= written.keys()
    known = decisions(auditor, about=waiver.subject)
    answer = finance.page.request.get(waiver.path, params=dict(written))
    assert answer.ok
    assert "What it would do now" not in answer.text()
    assert finance.page.request.head(waiver.path, params=dict(written)).ok
    waiver.is_as_before()
    assert decisions(auditor, about=waiver.subject) == known


def test_what_was_previewed_is_what_is_asked_for(
    house: House, people: Cast, waiver: Waiver
) -> None:
    finance = people("finance")
    written = waiver.previewed(finance)
    for changed in (
        {"parameter-outputs": json.dumps({"reference": "ANOTHER"})},
        {"reason": "Because."},
        {"evidence": "None"},
    ):
        answer = finance.forge(waiver.path, **{**written, **changed})
        assert answer.status == 200, changed
        assert "What it would do now" in answer.text(), changed
        waiver.is_as_before()
    stale = finance.forge(waiver.path, **{**written, "version": "of-another-time"})
    assert stale.status == 409
    assert f"{waiver.subject} has changed since you looked at it." in stale.text()
    waiver.is_as_before()
    # For another task than the one that was looked at: what was shown was about this one.
    other = Waiver(house)
    answer = finance.forge(other.path, **written)
    assert answer.status == 409
    other.is_as_before()
    waiver.is_as_before()


def test_a_form_is_sent_with_its_senders_own_token(
    house: House, people: Cast, waiver: Waiver
) -> None:
    finance, desk = people("finance"), people("desk")
    written = waiver.previewed(finance)
    assert desk.token != finance.token
    for token in (desk.token, "", "x" * 32, "x" * 64):
        assert finance.forge(waiver.path, token=token, **written).status == 403, token
    waiver.is_as_before()


def test_an_approval_is_given_once_by_another_person_who_may(
    house: House, people: Cast, waiver: Waiver
) -> None:
    finance, second, desk = people("finance"), people("finance-2"), people("desk")
    auditor = people("auditor")
    waiver.previewed(finance)
    finance.press_button("Ask for approval")
    finance.sees("Nothing is done before")
    (asked,) = [
        one["id"]
        for one in house.call("GET", "/approvals?limit=200", who="finance")["approvals"]
        if one["subject"] == waiver.subject
    ]
    waiver.has_settled()
    page = f"/admin/fulfillment/approval/{asked}"
    known = len(decisions(auditor, about=waiver.subject))
    for one in (finance, desk):
        assert one.forge(f"{page}/approve/", reason="I say so.").status == 403
        assert one.forge(f"{page}/refuse/", reason="I say so.").status == 403
    assert second.page.request.get(f"{page}/approve/?reason=By+a+link.").ok
    assert second.forge(f"{page}/withdraw/", reason="In their place.").status == 403
    assert second.forge(f"{page}/approve/", reason="").status == 200
    waiver.is_as_before()
    assert decisions(auditor, about=waiver.subject, since=known) == []
    for verb, who in (
        ("approve", ["finance", "desk"]),
        ("refuse", ["finance", "desk"]),
        ("withdraw", ["finance-2"]),
    ):
        assert decisions(auditor, about=f"{page}/{verb}/") == [
            ("✗ denied", name, "page", REFUSED) for name in who
        ]

    assert second.forge(f"{page}/approve/", reason="The ledger has it.").status == 302
    house.until_state("COMPLETED", waiver.reference)
    waiver.has_settled()
    assert second.forge(f"{page}/approve/", reason="Once more.").status == 403
    assert second.forge(f"{page}/refuse/", reason="After all.").status == 403
    waiver.is_as_before()
    told = decisions(auditor, about=waiver.subject, since=known)
    assert [one[:3] for one in told] == [
        ("✓ allowed", "finance-2", "approve.finance"),
        ("✓ allowed", "finance", "task.waive"),
    ]
    assert all(re.fullmatch(r"grant \d+ of Finance operations", why) for *_, why in told)
    again = ("✗ denied", "finance-2", "page", REFUSED)
    assert decisions(auditor, about=f"{page}/approve/")[-1] == again
    assert decisions(auditor, about=f"{page}/refuse/")[-1] == again
    auditor.open(f"/admin/fulfillment/operation/?q={waiver.subject}")
    (done,) = auditor.rows()
    assert "finance" in done
    assert WAIVER["reason"] in done
