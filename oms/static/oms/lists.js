// A list that has shown itself anew has other rows: those that are ticked from now on are counted,
// and "all of them" means the new ones. It does for them what the admin does when a page is opened.
(() => {
  "use strict";

  document.addEventListener("desk:changed", (event) => {
    if (typeof window.Actions !== "function") return;
    for (const list of event.target.querySelectorAll(".result-list-wrapper")) {
      const boxes = list.querySelectorAll("tr input.action-select");
      if (boxes.length > 0) window.Actions(boxes, { parent: list });
    }
  });
})();
