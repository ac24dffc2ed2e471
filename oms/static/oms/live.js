// Regions with data-live-seconds are looked at again while somebody sees them (desk/frame/live.html).
// What is open, scrolled or focused stays so, nobody is interrupted, and a page that could not be
// looked at again says since when it is out of date.
(() => {
  "use strict";

  const looked = new WeakMap(); // When a region was last asked for, in milliseconds.
  const shown = new Map(); // What a region's last answer was, by its id.
  const kept = new Map(); // What was open, scrolled and focused before the swap.
  let notice = null;
  let currentSince = new Date();

  htmx.config.timeout = 20_000; // Of a server that takes a request and never answers.

  const regions = () => document.querySelectorAll("[data-live-seconds]");
  const time = (at) => at.toISOString().slice(11, 19) + " UTC";

  // Something was entered that the next look would take away; what a script puts back itself says
  // so with data-kept.
  function isFilledIn(field) {
    if (field.matches("[data-kept], [type=hidden], [type=submit], [type=button]")) return false;
    if (field.matches("[type=checkbox], [type=radio]")) return field.checked !== field.defaultChecked;
    if (!field.matches("select")) return field.value !== field.defaultValue;
    const options = [...field.options];
    const chosen = options.filter((one) => one.defaultSelected);
    const before = chosen.length || field.multiple ? chosen : options.slice(0, 1);
    return options.some((one) => one.selected !== before.includes(one));
  }

  function isBusy(region) {
    const active = document.activeElement;
    const selection = document.getSelection();
    return (
      document.querySelector("dialog[open]") !== null ||
      (region.contains(active) && active.matches("input, select, textarea, summary:active")) ||
      region.querySelector("input[type=checkbox]:checked") !== null ||
      [...region.querySelectorAll("input, select, textarea")].some(isFilledIn) ||
      (selection && !selection.isCollapsed && region.contains(selection.anchorNode))
    );
  }

  function lookAgain() {
    if (document.hidden) return;
    const now = Date.now();
    for (const region of regions()) {
      if (!looked.has(region)) looked.set(region, now);
      const every = Number(region.dataset.liveSeconds) * 1000;
      if (now - looked.get(region) < every || isBusy(region)) continue;
      looked.set(region, now);
      htmx.trigger(region, "desk:look");
    }
  }

  function tell(words) {
    if (!words) {
      notice?.remove();
      notice = null;
      return;
    }
    if (!notice) {
      notice = document.createElement("p");
      notice.className = "desk-stale";
      notice.setAttribute("role", "status");
      document.body.append(notice);
    }
    const since = `This page is as of ${time(currentSince)}: ${words} `;
    const reload = document.createElement("a");
    reload.href = location.href;
    reload.textContent = "Load it again.";
    notice.replaceChildren(since, reload);
  }

  const detailsIn = (region) => [...region.querySelectorAll("details")];

  function remember(region) {
    const active = document.activeElement;
    const links = [...region.querySelectorAll("a[href], button, summary, [tabindex]")];
    kept.set(region.id, {
      details: detailsIn(region).map((one) => ({ id: one.id, open: one.open })),
      scrolled: [...region.querySelectorAll("[data-keep-scroll][id]")].map((one) => [
        one.id, one.scrollLeft, one.scrollTop,
      ]),
      focused: region.contains(active)
        ? { id: active.id, href: active.getAttribute("href"), place: links.indexOf(active) }
        : null,
    });
  }

  function restore(region) {
    const before = kept.get(region.id);
    if (!before) return;
    kept.delete(region.id);
    const now = detailsIn(region);
    before.details.forEach(({ id, open }, place) => {
      const same = now.length === before.details.length ? now[place] : null;
      const one = id ? document.getElementById(id) : same;
      if (one) one.open = open;
    });
    for (const [id, left, top] of before.scrolled) document.getElementById(id)?.scrollTo(left, top);
    if (!before.focused) return;
    const { id, href, place } = before.focused;
    const again =
      (id && document.getElementById(id)) ||
      (href && region.querySelector(`a[href="${CSS.escape(href)}"]`)) ||
      region.querySelectorAll("a[href], button, summary, [tabindex]")[place];
    again?.focus({ preventScroll: true });
  }

  document.addEventListener("htmx:beforeSwap", (event) => {
    const region = event.detail.target;
    if (!region.dataset?.liveSeconds) return;
    const answer = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
    const next = answer.getElementById(region.id);
    if (event.detail.xhr.status !== 200 || !next) {
      event.detail.shouldSwap = false;
      tell(next || event.detail.xhr.status !== 200 ? "the server refuses to show it." : "you are signed out.");
      return;
    }
    if (isBusy(region)) {
      // It has become so since it was asked for; what has come is not shown, and comes again.
      event.detail.shouldSwap = false;
      return;
    }
    currentSince = new Date();
    tell("");
    const is_same = shown.get(region.id) === next.innerHTML;
    shown.set(region.id, next.innerHTML);
    if (is_same) event.detail.shouldSwap = false;
    else remember(region);
  });
  // Not after the swap: what has an id gets its attributes only when all has settled.
  document.addEventListener("htmx:afterSettle", (event) => {
    const region = document.getElementById(event.detail.target.id);
    if (!region?.dataset.liveSeconds) return;
    looked.set(region, Date.now());
    restore(region);
    region.dispatchEvent(new CustomEvent("desk:changed", { bubbles: true }));
  });
  for (const failed of ["htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failed, () => tell("the server can't be reached."));
  }
  document.addEventListener("visibilitychange", lookAgain);
  setInterval(lookAgain, 1000);
})();
