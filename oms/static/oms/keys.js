// Keys: "g" and a letter goes to a page of the side bar, "/" searches, j and k walk along the rows
// of a list, Enter opens one, "x" selects it, "?" shows all of this. Nothing happens in a field.
(() => {
  "use strict";

  const PAGES = {
    t: "/admin/",
    o: "/admin/oms/order/",
    f: "/admin/fulfillment/falloutcase/",
    i: "/admin/fulfillment/incident/",
    m: "/admin/fulfillment/manualtask/",
    a: "/admin/fulfillment/approval/",
    u: "/admin/fulfillment/inboundevent/",
    b: "/admin/fulfillment/bulkjob/",
    s: "/admin/desk/targets",
    l: "/admin/desk/locks",
    w: "/admin/desk/workflows",
    r: "/admin/desk/reports",
  };
  let going = false;

  // Only what the side bar offers: it knows what this person may see.
  function linkTo(letter) {
    const wanted = PAGES[letter];
    if (!wanted) return null;
    const links = document.querySelectorAll("#nav-sidebar a[href]");
    return [...links].find((link) => new URL(link.href).pathname === wanted) ?? null;
  }

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
    const field = document.querySelector("#searchbar, input[type=search]");
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
        if (link) add(`g ${letter}`, (link.querySelector("[data-title]") ?? link).innerText.trim().split("\n").pop());
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
    if (going) {
      going = false;
      const link = linkTo(key);
      if (link) {
        event.preventDefault();
        link.click();
      }
      return;
    }
    const does = { j: () => walk(1), k: () => walk(-1), x: select, "/": search, "?": help };
    if (key === "g") going = true;
    else if (does[key]) {
      event.preventDefault();
      does[key]();
    }
  });
})();
