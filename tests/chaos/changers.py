"""Clients who have changed their minds: they cancel and amend orders at random moments.

Over HTTP, each request until it is answered, under one Idempotency-Key; some twice at once, some
after a preview. What was acknowledged goes into a log for the checker.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import urllib3

from tests.chaos.people import NotAnswered, Person
from tests.chaos.shapes import revised, without

_LATEST_SECONDS = 7.0
"""After its acknowledgement; most orders of a calm run have ended by then."""
_MOST_TRIES = 8
"""For an order that can't be amended yet."""
_TOO_EARLY_SECONDS = 2.0
_REFUSALS = {
    "cancel": frozenset({"order_is_complete", "order_is_over"}),
    "amend": frozenset(
        {
            *("order_is_being_cancelled", "order_is_being_undone", "order_is_over", "outdated"),
            *("changes_nothing", "nothing_left", "too_early", "version_used"),
        }
    ),
}
_REFUSALS["leave"] = _REFUSALS["amend"] | {"item_unknown"}
"""Answers that a client has to live with."""

Orders = Callable[[], Sequence[tuple[str, Mapping[str, Any]]]]
"""What has been acknowledged so far: references and bodies, only ever appended to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    verb: str
    """cancel, amend, or leave: cancel single items."""
    reference: str
    body: Mapping[str, Any]
    key: str
    with_preview: bool
    tries: int = 0

    @property
    def path(self) -> str:
        """Of items that are cancelled the request is an amendment."""
        return f"/orders/{self.reference}/{'amend' if self.verb == 'amend' else 'cancel'}"


class Changer(Person):
    """Looks after every `of`-th order, and more than one thing may become of each."""

    look_seconds = 0.2

    def __init__(self, *, orders: Orders, number: int, of: int, **person: Any) -> None:
        super().__init__(**person)
        self.answers: Counter[str] = Counter()
        self._orders = orders
        self._number, self._of = number, of
        self._seen = number
        self._agenda: list[tuple[float, int, Wish]] = []
        self._count = itertools.count(1)
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._versions: Counter[str] = Counter()
        self._both = ThreadPoolExecutor(2, thread_name_prefix="at-once")

    @property
    def is_idle(self) -> bool:
        return not self._agenda and self._seen >= len(self._orders())

    def work(self) -> None:
        known = self._orders()
        while self._seen < len(known):
            self._make_up_its_mind(*known[self._seen])
            self._seen += self._of
        while self._agenda and self._agenda[0][0] <= monotonic():
            self._ask(self._agenda[0][2])
            heapq.heappop(self._agenda)

    def _make_up_its_mind(self, reference: str, body: Mapping[str, Any]) -> None:
        self._bodies[reference] = body
        self._versions[reference] = 1
        thrown = self._dice.random()
        if 0.35 < thrown < 0.75:
            for _ in range(self._dice.choice((1, 1, 2))):
                leaves = len(body["items"]) > 1 and self._dice.random() < 0.7
                self._later("leave" if leaves else "amend", reference)
        if thrown < 0.5:
            self._later("cancel", reference)

    def _later(self, verb: str, reference: str) -> None:
        wish = Wish(
            verb=verb,
            reference=reference,
            body={},
            key=f"{verb}-{self._number}-{next(self._count)}",
            with_preview=self._dice.random() < 0.3,
        )
        self._put(wish, self._dice.uniform(0, _LATEST_SECONDS))

    def _put(self, wish: Wish, seconds: float) -> None:
        heapq.heappush(self._agenda, (monotonic() + seconds, next(self._count), wish))

    # --- asking ------------------------------------------------------------------------------

    def _ask(self, wish: Wish) -> None:
        """Until it is answered it stays on the agenda, and is asked again in the same words."""
        wish = self._worded(wish)
        if wish.with_preview:
            self._preview(wish)
        others = [wish]
        if self._dice.random() < 0.15:
            others.append(self._at_the_same_time(wish))
        answers = list(self._both.map(self._send, others))
        numbers = {
            number
            for one, answer in zip(others, answers, strict=True)
            if (number := self._heard(one, answer)) is not None
        }
        if wish.verb == "cancel" and len(numbers) > 1:
            self.wrong.append(f"{wish.reference}: two cancellations, {sorted(numbers)}")

    def _worded(self, wish: Wish) -> Wish:
        """As it was asked before, or made up now."""
        if wish.body:
            return wish
        body: dict[str, Any] = {"reason": "We have changed our minds."}
        if wish.verb == "amend":
            self._versions[wish.reference] += 1
            wanted = revised(self._bodies[wish.reference], self._dice)
            body |= {"version": self._versions[wish.reference], "order": wanted}
            if self._dice.random() < 0.1:
                body["mode"] = "recreate"
        if wish.verb == "leave":
            items = self._bodies[wish.reference]["items"]
            body["items"] = [self._dice.choice([one["item_id"] for one in items])]
        worded = replace(wish, body=body)
        due, count, _ = self._agenda[0]
        self._agenda[0] = (due, count, worded)
        return worded

    def _at_the_same_time(self, wish: Wish) -> Wish:
        """Somebody else cancels it as well; or a newer revision comes with the older one."""
        body = wish.body
        if wish.verb == "amend":
            self._versions[wish.reference] += 1
            wanted = revised(self._bodies[wish.reference], self._dice)
            body = {**body, "version": self._versions[wish.reference], "order": wanted}
        key = f"{wish.key}-{next(self._count)}"
        return replace(wish, body=body, key=key, tries=_MOST_TRIES)

    def _preview(self, wish: Wish) -> None:
        path = f"{wish.path}?preview=true"
        answer = self._post(path, wish.body)
        self._answered(answer, path)
        code = json.loads(answer.data).get("code", "").partition(".")[2]
        if answer.status != 200 and (answer.status != 409 or code not in _REFUSALS[wish.verb]):
            self.wrong.append(f"{path}: {answer.status} {answer.data[:300]!r}")

    def _send(self, wish: Wish) -> urllib3.BaseHTTPResponse:
        path = wish.path
        answer = self._post(path, wish.body, **{"Idempotency-Key": wish.key})
        return self._answered(answer, path)

    def _answered(self, answer: urllib3.BaseHTTPResponse, path: str) -> urllib3.BaseHTTPResponse:
        if answer.status >= 500 or answer.status == 429:
            raise NotAnswered(f"{path}: {answer.status}")
        return answer

    # --- hearing -----------------------------------------------------------------------------

    def _heard(self, wish: Wish, answer: urllib3.BaseHTTPResponse) -> int | None:
        """The number of the request that it has become, if it stands."""
        document = json.loads(answer.data)
        if answer.status in (200, 202):
            number: int = document["number"]
            self._keep(wish, document)
            return number
        if answer.status == 409:
            self._refused(wish, document)
        else:
            self.wrong.append(f"{wish}: {answer.status} {answer.data[:300]!r}")
        return None

    def _keep(self, wish: Wish, document: Mapping[str, Any]) -> None:
        state = document["state"]
        self.answers[f"{wish.verb} {state}"] += 1
        told = "cancelled" if wish.verb == "cancel" else "amended"
        self._note(**{told: wish.reference, "number": document["number"], "state": state})
        if wish.verb == "amend" and state in ("APPLIED", "ASSESSING"):
            self._bodies[wish.reference] = wish.body["order"]
        if wish.verb == "leave" and state in ("APPLIED", "ASSESSING"):
            self._bodies[wish.reference] = without(self._bodies[wish.reference], wish.body["items"])

    def _refused(self, wish: Wish, problem: Mapping[str, Any]) -> None:
        code = problem["code"].partition(".")[2]
        self.answers[f"{wish.verb} {code}"] += 1
        if code == "refused":
            request = problem.get("cancellation") or problem.get("amendment")
            if request is not None:
                self._keep(wish, request)
        elif code == "too_early" and wish.tries < _MOST_TRIES:
            again = replace(wish, key=f"{wish.key}-again", with_preview=False, tries=wish.tries + 1)
            self._put(again, _TOO_EARLY_SECONDS)
        elif code not in _REFUSALS[wish.verb]:
            self.wrong.append(f"{wish.verb} {wish.reference}: {dict(problem)}"[:600])
