// Tables of reports are sorted by a click on a heading: numbers the largest first, texts from A on.
(() => {
  "use strict";

  const valueOf = (row, at) => row.cells[at].dataset.sortsAs ?? "";

  function compare(one, other, isNumber) {
    if (one === "" || other === "") return (one === "") - (other === "");
    return isNumber ? Number(one) - Number(other) : one.localeCompare(other);
  }

  function sort(table, heading, at) {
    const isNumber = heading.classList.contains("desk-number");
    const before = heading.getAttribute("aria-sort");
    const first = isNumber ? "descending" : "ascending";
    const other = isNumber ? "ascending" : "descending";
    const direction = before === first ? other : first;
    for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [one, two] = [valueOf(a, at), valueOf(b, at)];
      const difference = compare(one, two, isNumber);
      return one === "" || two === "" ? difference : sign * difference;
    });
    table.tBodies[0].append(...rows);
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    [...table.tHead.rows[0].cells].forEach((heading, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "report-sort";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sort(table, heading, at));
      heading.replaceChildren(button);
    });
  }
})();
