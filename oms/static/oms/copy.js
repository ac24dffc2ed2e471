// A button with data-copy puts that text on the clipboard, and says that it has.
(() => {
  "use strict";

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      // Without a clipboard (no https) it can be marked and copied by hand.
      const shown = document.createRange();
      shown.selectNodeContents(button.previousElementSibling);
      document.getSelection().removeAllRanges();
      document.getSelection().addRange(shown);
      button.textContent = "marked";
    }
    setTimeout(() => { button.textContent = before; }, 2000);
  });
})();
