// Keys: "g" and a letter goes to a page of the side bar, "/" searches, j and k walk along the rows
// of a list, Enter opens one, "x" selects it, "?" shows all of this. Nothing happens in a field.
(() => {
  "use strict";

  // With "?": the list as the side bar filters it, if it does.
  const PAGES = {
    t: "/admin/",
    o: "/admin/oms/order/",
    f: "/admin/fulfillment/falloutcase/?",
    i: "/admin/fulfillment/incident/?",
    m: "/admin/fulfillment/manualtask/?",
    a: "/admin/fulfillment/approval/?",
    u: "/admin/fulfillment/inboundevent/?",
    b: "/admin/fulfillment/bulkjob/",
    s: "/admin/desk/targets",
    l: "/admin/desk/locks",
    w: "/admin/desk/workflows",
    r: "/admin/desk/reports",
  };
  const PATIENCE_MILLISECONDS = 2000;
  let goingSince = null;

  // Only what the side bar offers: it knows what this person may see.
  function linkTo(letter) {
    if (!PAGES[letter]) return null;
    const [path, filter] = PAGES[letter].split("?");
    const links = [...document.querySelectorAll("#nav-sidebar-apps a[href]")].filter(
      (link) => link.pathname === path,
    );
    return links.find((link) => (link.search !== "") === (filter !== undefined)) ?? links[0] ?? null;
  }

  const wordsOf = (link) =>
    (link.querySelector("span:not(.material-symbols-outlined)") ?? link).textContent.trim();

  const rows = () => [...document.querySelectorAll("#result_list tbody tr, .desk-rows tbody tr")];
  const linkOf = (row) => row.querySelector("th a[href], td a[href]");

  function walk(step) {
    const all = rows();
    if (!all.length) return;
    const here = all.findIndex((row) => row.contains(document.activeElement));
    const next = all[Math.min(all.length - 1, Math.max(0, here + step))];
    linkOf(next)?.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  function select() {
    const row = rows().find((one) => one.contains(document.activeElement));
    row?.querySelector("input[type=checkbox]")?.click();
  }

  function search() {
    const places = ["#searchbar", "#content input[type=search]", "#nav-filter"];
    const field = places.map((place) => document.querySelector(place)).find(Boolean);
    field?.focus();
    field?.select();
  }

  function help() {
    let dialog = document.getElementById("desk-keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "desk-keys";
      dialog.className = "desk-keys";
      const list = document.createElement("dl");
      const add = (key, words) => {
        const term = document.createElement("dt");
        const meaning = document.createElement("dd");
        term.textContent = key;
        meaning.textContent = words;
        list.append(term, meaning);
      };
      for (const letter of Object.keys(PAGES)) {
        const link = linkTo(letter);
        if (link) add(`g ${letter}`, wordsOf(link));
      }
      add("j, k", "next row, row before");
      add("Enter", "open the row");
      add("x", "select the row");
      add("/", "search");
      add("?", "these keys");
      const title = document.createElement("h2");
      title.textContent = "Keys";
      const close = document.createElement("form");
      close.method = "dialog";
      const button = document.createElement("button");
      button.className = "desk-button";
      button.textContent = "Close";
      close.append(button);
      dialog.append(title, list, close);
      document.body.append(dialog);
    }
    dialog.showModal();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, [contenteditable], dialog")) return;
    const key = event.key;
    if (goingSince !== null && Date.now() - goingSince < PATIENCE_MILLISECONDS) {
      goingSince = null;
      event.preventDefault();
      event.stopPropagation(); // The frame has keys of its own: "t" alone searches.
      linkTo(key)?.click();
      return;
    }
    goingSince = null;
    const does = { j: () => walk(1), k: () => walk(-1), x: select, "/": search, "?": help };
    if (key === "g") goingSince = Date.now();
    else if (does[key]) {
      event.preventDefault();
      does[key]();
    }
  });
})();
