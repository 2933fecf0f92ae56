// Runs before the first paint: the saved theme, else the system's. The toggle cycles system → light → dark.
(() => {
  "use strict";
  const KEY = "theme";
  const CHOICES = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");

  const saved = () => {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto";
    }
  };
  let choice = saved();

  const apply = () => {
    const theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.bsTheme = theme;
    document.documentElement.dataset.themeChoice = choice;
    const button = document.querySelector("[data-theme-toggle]");
    if (button) button.setAttribute("aria-label", `Theme: ${choice === "auto" ? "as the system" : choice}. Change it.`);
    document.querySelectorAll("[data-theme-option]").forEach((option) => {
      option.checked = option.value === choice;
    });
  };
  const choose = (next) => {
    choice = next;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Private windows may refuse storage; the choice then lasts as long as the page.
    }
    apply();
  };

  document.documentElement.classList.add("js");
  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.querySelector("[data-theme-toggle]")?.addEventListener("click", () => {
      choose(CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length]);
    });
    document.querySelectorAll("[data-theme-option]").forEach((option) => {
      option.addEventListener("change", () => choose(option.value));
    });
  });
})();
