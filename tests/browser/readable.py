"""What every page owes to whoever has no mouse, or does not see it."""

from __future__ import annotations

import re
from itertools import pairwise

from playwright.sync_api import Page

from tests.browser import contrast, tabbing

_NAMELESS = re.compile(
    r"^\s*- (link|button|img|textbox|searchbox|combobox|checkbox|radio|spinbutton|switch)"
    r"(?! [\"/])",
    re.MULTILINE,
)
WIDTHS = (1280, 1920)

# What looks at itself again would put other elements in the place of those that are looked at.
_STANDS_STILL = """() => document.querySelectorAll("[data-live-seconds]")
  .forEach((region) => { region.dataset.liveSeconds = "3600"; })"""

_HEADINGS = """() => [...document.querySelectorAll("#main :is(h1, h2, h3, h4, h5, h6)")]
  .filter((one) => one.checkVisibility() && one.role !== "none" && one.role !== "button")
  .map((one) => [Number(one.tagName[1]), one.textContent.trim().slice(0, 60)])"""

_UNSEEN_FOCUS = """(within) => {
  const looks = (one) => {
    const found = [];
    for (let at = one; at && found.length < 3; at = at.parentElement) {
      const { outlineStyle, outlineWidth, boxShadow, borderColor, backgroundColor, stroke,
        strokeWidth } = getComputedStyle(at);
      const outline = outlineStyle === "none" ? "none" : `${outlineStyle} ${outlineWidth}`;
      found.push([outline, boxShadow, borderColor, backgroundColor, stroke, strokeWidth].join());
    }
    return found.join("|");
  };
  const inner = (one) => [...one.querySelectorAll("rect, path, circle")].map(looks).join();
  const all = [...document.querySelector(within).querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")];
  const unseen = [];
  for (const one of all) {
    if (!one.checkVisibility({ visibilityProperty: true }) || one.disabled) continue;
    document.activeElement?.blur();
    const before = looks(one) + inner(one);
    one.focus();
    if (document.activeElement === one && looks(one) + inner(one) === before)
      unseen.push(one.outerHTML.slice(0, 160));
  }
  document.activeElement?.blur();
  return unseen;
}"""


def faults(page: Page, *, within: str = "body") -> list[str]:
    """What is wrong with the page as it is now, in words; nothing when nothing is.

    What can be reached and seen there is looked at `within` a part of it: the frame is the same
    around every page.
    """
    page.evaluate(_STANDS_STILL)
    found = []
    headings = page.evaluate(_HEADINGS)
    if [level for level, _ in headings].count(1) != 1:
        found.append(f"It has not exactly one first heading: {headings}")
    for (above, _), (below, words) in pairwise(headings):
        if below > above + 1:
            found.append(f"The heading {words!r} leaves out a level.")
    told = page.locator(within).aria_snapshot()
    lines = told.splitlines()
    for match in _NAMELESS.finditer(told):
        line = told.count("\n", 0, match.start())
        found.append(f"Without a name: {' / '.join(lines[line : line + 3])}")
    found += tabbing.lost(page, within=within)
    # The modality is that of the last input: after a key, focus is shown.
    page.keyboard.press("Shift")
    found += [f"Its focus can't be seen: {one}" for one in page.evaluate(_UNSEEN_FOCUS, within)]
    found += contrast.faint(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append(f"It is wider than a window of {width} pixels.")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    return found
