// What the frame around our pages leaves out for whoever has no mouse or does not see it: its symbols
// are letters of a font, which would be read out, and some of what is clicked can't be reached by Tab.
(() => {
  "use strict";

  const NAMES = {
    close: "Close",
    dock_to_right: "Show or hide the side bar",
    local_shipping: "To the first page",
    more_horiz: "More",
    more_vert: "More",
    search: "Search",
  };
  const NATIVE = "a[href], button, input, select, textarea, summary, label";
  const SYMBOL = ".material-symbols-outlined";

  const wordsOf = (one) =>
    [...one.childNodes]
      .map((node) =>
        node.nodeType === Node.TEXT_NODE ? node.data : node.matches?.(SYMBOL) ? "" : wordsOf(node),
      )
      .join("")
      .trim();
  const symbolOf = (one) => (one.matches(SYMBOL) ? one : one.querySelector(SYMBOL));

  function name(one) {
    if (wordsOf(one) && !one.matches(SYMBOL)) return;
    if (one.ariaLabel || one.title || one.querySelector("img[alt]")) return;
    const symbol = symbolOf(one)?.textContent.trim();
    if (symbol) one.ariaLabel = NAMES[symbol] ?? symbol.replaceAll("_", " ");
  }

  // As a button: reached by Tab, pressed by Enter and the space bar.
  function enable(one) {
    one.role = "button";
    one.tabIndex = 0;
    name(one);
    const folds = one.matches("h2, h3") ? one.nextElementSibling : null;
    if (folds) {
      const tell = () => (one.ariaExpanded = String(folds.style.display !== "none"));
      new MutationObserver(tell).observe(folds, { attributeFilter: ["style"] });
      tell();
    }
    one.addEventListener("keydown", (event) => {
      if (event.target !== one || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      one.click();
    });
  }

  function complete(root) {
    for (const one of root.querySelectorAll("[x-on\\:click]")) {
      const is_bare = !one.matches(NATIVE) && !one.hasAttribute("role");
      if (is_bare && one.textContent.trim() && !one.querySelector(NATIVE)) enable(one);
    }
    for (const one of root.querySelectorAll("a[href], button")) name(one);
    for (const one of root.querySelectorAll(SYMBOL)) {
      if (!one.hasAttribute("role")) one.ariaHidden = "true";
    }
    // A page with a title of its own has one; the frame's says the same again.
    const [above, below] = ["#header-inner h1", "#content h1"].map((at) => document.querySelector(at));
    if (above && below) above.role = "none";
  }

  document.addEventListener("htmx:load", (event) => complete(event.detail.elt));
})();
