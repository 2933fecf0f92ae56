// Small conveniences; every page works without them.
(() => {
  "use strict";
  const announce = (text) => {
    document.getElementById("announcements").textContent = text;
  };

  // Menus are <details>: close them on Escape, and when the focus or a click goes elsewhere.
  const closeMenus = (except) => {
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      if (menu !== except) menu.open = false;
    });
  };
  document.addEventListener("click", (event) => closeMenus(event.target.closest("details.menu")));
  document.addEventListener("focusin", (event) => closeMenus(event.target.closest("details.menu")));
  document.addEventListener("keydown", (event) => {
    const menu = document.querySelector("details.menu[open]");
    if (event.key === "Escape" && menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.classList.add("copied");
      announce("Copied.");
      setTimeout(() => button.classList.remove("copied"), 2000);
    } catch {
      announce("The browser did not allow copying; select the text instead.");
    }
  });

  document.addEventListener("focusin", (event) => {
    if (event.target.matches("input[data-select]")) event.target.select();
  });

  document.querySelectorAll("form[data-autosubmit]").forEach((form) => {
    // A date that is being typed changes with each digit.
    form.addEventListener("change", (event) => event.target.matches("select") && form.requestSubmit());
  });

  // A second click on a slow page must not start a second backup.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || "download" in event.target.dataset) return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => {
    document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
  });

  document.querySelector("[data-focus-first]")?.focus();
})();
