"""What Tab does on a page: it goes through all of it, as it is read, and comes out again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from playwright.sync_api import Page

_MOST = 600
"""Stops of a page; more than that is a trap for whoever has to press it so often."""

_ROUNDS = 3
_OUTSIDE, _SCROLLED = -1, -2
# Every stop that can be seen, in the order of the document, with its place on an unscrolled page.
_STOPS = """(within) => {
  const part = document.querySelector(within);
  const wanted = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]";
  const stops = [...part.querySelectorAll(wanted)].filter(
    (one) =>
      one.tabIndex >= 0 && !one.disabled && one.checkVisibility({ visibilityProperty: true }),
  );
  window.deskVisited = [];
  document.addEventListener("focusin", (event) => {
    const one = event.target;
    const box = one.getBoundingClientRect();
    const isInside = box.bottom > 0 && box.right > 0 &&
      box.top < window.innerHeight && box.left < window.innerWidth;
    const place = stops.indexOf(one);
    window.deskVisited.push([place >= 0 || !part.contains(one) ? place : SCROLLED, isInside]);
  });
  // Tab goes on from where the focus was last, even where that is gone.
  const before = document.createElement("span");
  before.tabIndex = -1;
  part.prepend(before);
  before.focus();
  before.remove();
  window.deskVisited.length = 0;
  window.scrollTo(0, 0);
  // Where it is can be told of what moves together; what is scrolled, or stays, is apart.
  const frames = [];
  function frameOf(one) {
    for (let at = one; at; at = at.parentElement) {
      const { position, overflowY } = getComputedStyle(at);
      const isApart = ["sticky", "fixed"].includes(position) ||
        (["auto", "scroll"].includes(overflowY) && at.scrollHeight > at.clientHeight);
      if (isApart || at.ownerSVGElement) return frames.indexOf(at) + 1 || frames.push(at);
    }
    return 0;
  }
  return stops.map((one) => {
    const box = one.getBoundingClientRect();
    const said = one.ariaLabel || one.textContent.trim() || one.name || one.title || one.tagName;
    return {
      words: said.replace(/\\s+/g, " ").slice(0, 60),
      frame: frameOf(one),
      hasTurn: one.tabIndex > 0,
      left: box.left, top: box.top, right: box.right, bottom: box.bottom,
    };
  });
}""".replace("SCROLLED", str(_SCROLLED))


def lost(page: Page, *, within: str = "body") -> list[str]:
    """What is wrong with the way that Tab takes through a part of the page, in words."""
    stops: list[dict[str, Any]] = page.evaluate(_STOPS, within)
    if len(stops) > _MOST:
        return [f"It has {len(stops)} stops: nobody presses Tab so often."]
    visited: list[tuple[int, bool]] = []
    missed = list(range(len(stops)))
    # What can be scrolled is a stop as well: it takes a few more until Tab has come out again.
    for _ in range(_ROUNDS):
        for _ in range(len(missed) + 1):
            page.keyboard.press("Tab")
        visited = page.evaluate("window.deskVisited")
        missed = sorted(set(range(len(stops))) - {place for place, _ in visited})
        if not missed or any(place == _OUTSIDE for place, _ in visited):
            break
    ways = [place for place, _ in visited if place >= 0]
    found = []
    first = ways[: len(set(ways))]
    if len(first) != len(set(first)):
        found.append(f"Tab comes twice to {_words(stops, _twice(first))}")
    if missed:
        found.append(f"Tab leaves out {_words(stops, missed)}")
    for before, after in pairwise(first):
        here, there = stops[before], stops[after]
        is_above = there["bottom"] <= here["top"] and there["left"] < here["left"] - 1
        if after < before or (is_above and there["frame"] == here["frame"]):
            found.append(f"Tab goes back from {here['words']!r} to {there['words']!r}.")
    if turns := [place for place, one in enumerate(stops) if one["hasTurn"]]:
        found.append(f"Not in the order of the page, but with a turn: {_words(stops, turns)}")
    hidden = [place for place, is_inside in visited if not is_inside and place >= 0]
    if hidden:
        found.append(f"Tab goes out of sight at {_words(stops, hidden)}")
    return found


def _twice(places: list[int]) -> list[int]:
    return [place for number, place in enumerate(places) if place in places[:number]]


def _words(stops: list[dict[str, Any]], places: list[int]) -> str:
    return ", ".join(repr(stops[place]["words"]) for place in dict.fromkeys(places))
