"""Whether what is written can be told from what it is written on (WCAG 2.2, 1.4.3)."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

ENOUGH = 4.5
ENOUGH_IF_LARGE = 3.0
"""From 24 pixels on, or from 18.66 if it is bold."""

# Colours are mixed as the browser mixes them: what shines through, and what is half there. What
# lies behind text is what it stands in; behind text in a picture, what was drawn there before.
_FAINT = """([enough, enoughIfLarge]) => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const read = new Map();
  function colour(words) {
    if (!read.has(words)) {
      pen.clearRect(0, 0, 1, 1);
      pen.fillStyle = words;
      pen.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = pen.getImageData(0, 0, 1, 1).data;
      read.set(words, { red, green, blue, alpha: alpha / 255 });
    }
    return read.get(words);
  }
  const mixed = (above, below, share) => ({
    red: above.red * share + below.red * (1 - share),
    green: above.green * share + below.green * (1 - share),
    blue: above.blue * share + below.blue * (1 - share),
    alpha: 1,
  });
  const white = { red: 255, green: 255, blue: 255, alpha: 1 };
  const styles = new Map();
  function styleOf(one) {
    if (!styles.has(one)) styles.set(one, getComputedStyle(one));
    return styles.get(one);
  }
  const behind = new Map();
  function paper(one) {
    if (!one) return white;
    if (!behind.has(one)) {
      const above = colour(styleOf(one).backgroundColor);
      const below = above.alpha === 1 ? white : paper(one.parentElement);
      behind.set(one, mixed(above, below, above.alpha));
    }
    return behind.get(one);
  }
  function drawnBehind(text) {
    const at = text.getBoundingClientRect();
    const x = at.left + at.width / 2, y = at.top + at.height / 2;
    let found = paper(text.ownerSVGElement);
    for (const shape of text.ownerSVGElement.querySelectorAll("rect, path, polygon, circle")) {
      if (shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_PRECEDING) break;
      const { fill, fillOpacity } = styleOf(shape);
      const box = shape.getBoundingClientRect();
      const holds = box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
      if (fill === "none" || fill.startsWith("url") || !holds) continue;
      const above = colour(fill);
      found = mixed(above, found, above.alpha * Number(fillOpacity));
    }
    return found;
  }
  function light({ red, green, blue }) {
    const part = (value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  }
  function contrast(one, other) {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  }
  function opacity(one) {
    let found = 1;
    for (let at = one; at; at = at.parentElement) found *= Number(styleOf(at).opacity);
    return found;
  }
  const faint = new Map();
  function look(one, ink, words) {
    const style = styleOf(one);
    const drawn = one.ownerSVGElement ? one.closest("text") : null;
    const under = drawn ? drawnBehind(drawn) : paper(one);
    const above = colour(ink);
    const found = contrast(mixed(above, under, above.alpha * opacity(one)), under);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (found >= (isLarge ? enoughIfLarge : enough) - 0.005) return;
    const named = [one.tagName.toLowerCase(), ...one.classList].slice(0, 5).join(".");
    const key = `${named} ${ink}`;
    if (!faint.has(key)) faint.set(key, { contrast: found, words, named });
  }
  const isSeen = (one) =>
    one.checkVisibility({ visibilityProperty: true, opacityProperty: true }) &&
    one.getBoundingClientRect().width > 1;
  const isOff = (one) => one.closest(":disabled, [aria-disabled=true]") !== null;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const words = walk.currentNode.data.trim();
    const one = walk.currentNode.parentElement;
    // Signs beside words, and titles that a mouse shows, are no text.
    if (!words || one.matches("script, style, title, noscript, option, .material-symbols-outlined"))
      continue;
    if (!isSeen(one) || isOff(one)) continue;
    look(one, one.ownerSVGElement ? styleOf(one).fill : styleOf(one).color, words.slice(0, 60));
  }
  for (const one of document.querySelectorAll("input, textarea, select")) {
    if (!isSeen(one) || isOff(one) || one.matches("[type=checkbox], [type=radio]")) continue;
    look(one, styleOf(one).color, one.value || one.name);
    if (one.placeholder) look(one, getComputedStyle(one, "::placeholder").color, one.placeholder);
  }
  return [...faint.values()];
}"""

# What fades from one colour to the next would be read half way.
_AT_ONCE = "*, *::before, *::after { transition: none !important; animation: none !important; }"
# The frame looks at the scheme when a page is opened, and gives the page's root this class.
_DRESS = "(isDark) => document.documentElement.classList.toggle('dark', isDark)"


def faint(page: Page) -> list[str]:
    """The texts of a page that can hardly be read, in the light and in the dark."""
    page.add_style_tag(content=_AT_ONCE)
    found = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(_DRESS, scheme == "dark")
        seen: list[dict[str, Any]] = page.evaluate(_FAINT, [ENOUGH, ENOUGH_IF_LARGE])
        found += [
            f"Hard to read when it is {scheme} ({one['contrast']:.2f}): "
            f"{one['words']!r} in {one['named']}"
            for one in seen
        ]
    return found
