// Forms that ask why: Enter in such a field presses the button that stands first, and what was
// pressed once is not sent twice.
(() => {
  "use strict";

  document.addEventListener("keydown", (event) => {
    const field = event.target;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    if (!field.matches("[data-enter-goes-on]")) return;
    const button = field.form?.querySelector("button[type=submit]:not(.desk-unseen)");
    if (!button) return;
    event.preventDefault();
    field.form.requestSubmit(button);
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-once]")) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    form.setAttribute("aria-busy", "true");
  });

  // Back in the browser shows the form as it was, and it may be sent again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-once]")) {
      delete form.dataset.sent;
      form.removeAttribute("aria-busy");
    }
  });
})();
