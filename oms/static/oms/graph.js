// Pictures of plans and workflows (desk/plans/graph.html): zoom, pan, overview, find a task, show only a
// part, explain each box. What somebody has set up stays when the page looks at itself again.
(() => {
  "use strict";

  const views = new Map(); // How a picture is looked at, by its id.
  const SMALLEST = 0.05;
  const LARGEST = 3;
  const READABLE = 0.6;
  const between = (low, value, high) => Math.min(high, Math.max(low, value));

  function setUp(graph) {
    if (graph.dataset.ready) return;
    graph.dataset.ready = "1";
    const canvas = graph.querySelector(".desk-canvas");
    const svg = canvas.querySelector("svg");
    const overview = graph.querySelector(".desk-overview");
    const tooltip = graph.querySelector(".desk-tooltip");
    const field = graph.querySelector(".desk-graph-field");
    const found = graph.querySelector(".desk-graph-found");
    const [boxWidth, boxHeight] = graph.dataset.box.split(" ").map(Number);
    const width = Number(svg.getAttribute("width"));
    const height = Number(svg.getAttribute("height"));
    const boxes = [...svg.querySelectorAll("[data-box]")].map(readBox);
    const byElement = new Map(boxes.map((box) => [box.element, box]));
    const view = views.get(graph.id) ?? { zoom: 0, left: 0, top: 0, show: "", query: "", next: 0 };
    views.set(graph.id, view);

    function readBox(element) {
      const title = element.querySelector("title");
      const lines = title.textContent.split("\n");
      title.remove(); // Or the browser would show it beside the tooltip.
      const [x, y] = element.dataset.box.split(" ").map(Number);
      element.setAttribute("aria-label", lines.join(". "));
      element.setAttribute("tabindex", "-1");
      if (element.localName !== "a") element.setAttribute("role", "img");
      return { element, x, y, lines, name: `${lines[0]} ${lines[1]}`.toLowerCase() };
    }

    // --- zoom and place ----------------------------------------------------------------------

    const room = () => Math.round(window.innerHeight * 0.7);
    const fitting = () => Math.min(1, (canvas.clientWidth - 4) / width, (canvas.clientHeight - 4) / height);

    function zoomTo(wanted, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
      const zoom = between(Math.min(SMALLEST, fitting()), wanted, LARGEST);
      const [left, top] = [(canvas.scrollLeft + x) / view.zoom, (canvas.scrollTop + y) / view.zoom];
      draw(zoom);
      canvas.scrollTo(left * zoom - x, top * zoom - y);
      placed();
    }

    function draw(zoom) {
      view.zoom = zoom;
      svg.setAttribute("width", Math.round(width * zoom));
      svg.setAttribute("height", Math.round(height * zoom));
      svg.classList.toggle("desk-far", zoom < 0.5);
      hideTooltip();
    }

    function placed() {
      view.left = canvas.scrollLeft;
      view.top = canvas.scrollTop;
      requestAnimationFrame(drawOverview);
    }

    const isOf = (box, part) => box.element.dataset.of.split(" ").includes(part);

    function isSeen(box) {
      const [left, top] = [box.x * view.zoom, box.y * view.zoom];
      return (
        left >= canvas.scrollLeft && left + boxWidth * view.zoom <= canvas.scrollLeft + canvas.clientWidth &&
        top >= canvas.scrollTop && top + boxHeight * view.zoom <= canvas.scrollTop + canvas.clientHeight
      );
    }

    function reveal(box) {
      if (isSeen(box)) return;
      canvas.scrollTo(
        (box.x + boxWidth / 2) * view.zoom - canvas.clientWidth / 2,
        (box.y + boxHeight / 2) * view.zoom - canvas.clientHeight / 2,
      );
      placed();
    }

    function firstView() {
      const wide = Math.min(1, (canvas.clientWidth - 4) / width);
      const zoom = wide >= READABLE ? wide : 1;
      canvas.style.height = `${Math.min(room(), Math.max(160, Math.round(height * zoom) + 18))}px`;
      if (view.zoom) {
        draw(view.zoom);
        canvas.scrollTo(view.left, view.top);
        placed();
        return;
      }
      draw(zoom);
      const of = (part) => boxes.find((box) => isOf(box, part));
      const first = of("trouble") ?? of("way") ?? of("open");
      if (first) reveal(first);
      placed();
    }

    // --- overview ----------------------------------------------------------------------------

    const scale = Math.min(200 / width, 120 / height);
    let colours = null;

    function drawOverview() {
      const hidden =
        width * view.zoom <= canvas.clientWidth + 1 && height * view.zoom <= canvas.clientHeight + 1;
      overview.hidden = hidden;
      if (hidden) return;
      const pen = overview.getContext("2d");
      overview.width = Math.max(24, Math.ceil(width * scale));
      overview.height = Math.max(24, Math.ceil(height * scale));
      colours ??= boxes.map((box) => {
        const style = getComputedStyle(box.element.querySelector(".desk-outline"));
        return style.stroke;
      });
      boxes.forEach((box, at) => {
        pen.fillStyle = colours[at];
        pen.fillRect(box.x * scale, box.y * scale, Math.max(2, boxWidth * scale), Math.max(1.5, boxHeight * scale));
      });
      const seen = scale / view.zoom;
      pen.strokeStyle = "#000000";
      pen.lineWidth = 2;
      pen.strokeRect(
        canvas.scrollLeft * seen + 1, canvas.scrollTop * seen + 1,
        Math.min(overview.width - 2, canvas.clientWidth * seen - 2),
        Math.min(overview.height - 2, canvas.clientHeight * seen - 2),
      );
    }

    function lookAt(event) {
      const rect = overview.getBoundingClientRect();
      const [x, y] = [(event.clientX - rect.left) / scale, (event.clientY - rect.top) / scale];
      canvas.scrollTo(x * view.zoom - canvas.clientWidth / 2, y * view.zoom - canvas.clientHeight / 2);
      placed();
    }

    overview.addEventListener("pointerdown", (event) => {
      overview.setPointerCapture(event.pointerId);
      lookAt(event);
    });
    overview.addEventListener("pointermove", (event) => event.buttons && lookAt(event));

    // --- tooltip -----------------------------------------------------------------------------

    function showTooltip(box) {
      const [title, ...rest] = box.lines;
      const parts = [Object.assign(document.createElement("strong"), { textContent: title })];
      rest.forEach((line, at) => {
        parts.push(Object.assign(document.createElement(at < 2 ? "small" : "p"), { textContent: line }));
      });
      tooltip.replaceChildren(...parts);
      tooltip.hidden = false;
      const frame = graph.getBoundingClientRect();
      const at = box.element.querySelector(".desk-outline").getBoundingClientRect();
      const below = at.bottom + 10 + tooltip.offsetHeight < window.innerHeight;
      const top = below ? at.bottom + 10 : at.top - 10 - tooltip.offsetHeight;
      tooltip.style.left = `${between(0, at.left - frame.left, Math.max(0, frame.width - tooltip.offsetWidth))}px`;
      tooltip.style.top = `${top - frame.top}px`;
    }

    function hideTooltip() {
      tooltip.hidden = true;
    }

    const boxOf = (target) => byElement.get(target.closest?.("[data-box]"));

    svg.addEventListener("pointerover", (event) => {
      const box = boxOf(event.target);
      if (box && !canvas.classList.contains("desk-dragging")) showTooltip(box);
    });
    svg.addEventListener("pointerout", (event) => {
      if (boxOf(event.target) !== boxOf(event.relatedTarget ?? svg)) hideTooltip();
    });
    svg.addEventListener("focusin", (event) => {
      const box = boxOf(event.target);
      if (!box) return;
      hold(box);
      reveal(box);
      showTooltip(box);
    });
    svg.addEventListener("focusout", hideTooltip);

    // --- keys --------------------------------------------------------------------------------

    let current = null;

    function hold(box) {
      // One box is a stop of Tab, whichever was looked at last; arrow keys go to the others.
      current?.element.setAttribute("tabindex", "-1");
      current = box;
      current.element.setAttribute("tabindex", "0");
    }

    function go(box) {
      if (view.zoom < READABLE) zoomTo(1);
      reveal(box);
      box.element.focus({ preventScroll: true });
    }

    function beside(from, right, down) {
      const cost = (box) => {
        const [dx, dy] = [box.x - from.x, box.y - from.y];
        const [along, across] = right ? [dx * right, Math.abs(dy)] : [dy * down, Math.abs(dx)];
        return along > 0 ? along + 3 * across : Infinity;
      };
      const best = boxes.reduce((one, other) => (cost(other) < cost(one) ? other : one), from);
      return cost(best) < Infinity ? best : null;
    }

    const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const ZOOMS = {
      in: () => zoomTo(view.zoom * 1.25),
      out: () => zoomTo(view.zoom / 1.25),
      fit: () => zoomTo(fitting()),
      whole: () => zoomTo(1),
    };
    const KEYS = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "whole" };

    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const box = boxOf(event.target);
      if (KEYS[event.key]) {
        event.preventDefault();
        ZOOMS[KEYS[event.key]]();
      } else if (box && ARROWS[event.key]) {
        event.preventDefault();
        const next = beside(box, ...ARROWS[event.key]);
        if (next) next.element.focus({ preventScroll: true });
      } else if (event.key === "Escape") {
        hideTooltip();
      }
    });
    graph.querySelectorAll("[data-zoom]").forEach((button) => {
      button.addEventListener("click", () => ZOOMS[button.dataset.zoom]());
    });

    // --- find --------------------------------------------------------------------------------

    function mark() {
      const query = view.query.trim().toLowerCase();
      const matches = query ? boxes.filter((box) => box.name.includes(query)) : [];
      boxes.forEach((box) => box.element.classList.toggle("desk-match", matches.includes(box)));
      if (!query) found.textContent = "";
      else found.textContent = matches.length ? `${matches.length} found` : "None is called so.";
      return matches;
    }

    function goToNext() {
      const matches = mark();
      if (!matches.length) return;
      const at = view.next % matches.length;
      view.next = at + 1;
      found.textContent = `${at + 1} of ${matches.length}`;
      go(matches[at]);
    }

    field.value = view.query;
    field.addEventListener("input", () => {
      view.query = field.value;
      view.next = 0;
      mark();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      goToNext();
    });
    graph.querySelector(".desk-graph-find button").addEventListener("click", goToNext);
    const names = [...new Set(boxes.flatMap((box) => [box.lines[0], box.lines[1]]))];
    graph.querySelector("datalist").replaceChildren(
      ...names.map((name) => Object.assign(document.createElement("option"), { value: name })),
    );

    // --- show only a part --------------------------------------------------------------------

    function show(part) {
      view.show = part;
      svg.dataset.show = part;
      graph.querySelectorAll("[data-show][aria-pressed]").forEach((button) => {
        button.setAttribute("aria-pressed", String(button.dataset.show === part));
      });
    }

    graph.querySelectorAll("[data-show][aria-pressed]").forEach((button) => {
      button.addEventListener("click", () => {
        show(button.dataset.show);
        const part = boxes.filter((box) => isOf(box, view.show));
        if (view.show && part.length && !part.some(isSeen)) reveal(part[0]);
      });
    });

    // --- wheel and drag ----------------------------------------------------------------------

    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const rect = canvas.getBoundingClientRect();
      zoomTo(view.zoom * Math.exp(-event.deltaY * 0.002), event.clientX - rect.left, event.clientY - rect.top);
    }, { passive: false });

    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      drag = { x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop, moved: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag || !event.buttons) return;
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.abs(dx) + Math.abs(dy) < 5) return;
      if (!drag.moved) {
        drag.moved = true;
        canvas.setPointerCapture(event.pointerId);
        canvas.classList.add("desk-dragging");
        hideTooltip();
      }
      canvas.scrollTo(drag.left - dx, drag.top - dy);
    });
    canvas.addEventListener("pointerup", () => canvas.classList.remove("desk-dragging"));
    canvas.addEventListener("click", (event) => {
      if (drag?.moved) event.preventDefault(); // Who drags does not follow a link.
      drag = null;
    }, true);
    canvas.addEventListener("dragstart", (event) => event.preventDefault());
    canvas.addEventListener("scroll", placed, { passive: true });

    // --- begin -------------------------------------------------------------------------------

    graph.querySelector(".desk-graph-bar").hidden = false;
    if (boxes.length) hold(boxOf(document.activeElement) ?? boxes[0]);
    show(view.show);
    mark();
    if (canvas.clientWidth) firstView();
    else {
      // Folded away; it is looked at for the first time when it is opened.
      const opened = new ResizeObserver(() => {
        if (!canvas.clientWidth) return;
        opened.disconnect();
        firstView();
      });
      opened.observe(canvas);
    }
    if (current && document.activeElement === current.element) showTooltip(current);
  }

  const setUpAll = (within) => within.querySelectorAll(".desk-graph").forEach(setUp);
  document.addEventListener("desk:changed", (event) => setUpAll(event.target));
  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", () => setUpAll(document));
  } else setUpAll(document);
})();
