// While a schedule is edited: fetch the partial that the page was rendered with, for the form's current values.
(() => {
  "use strict";
  const PAUSE_MS = 300;
  const form = document.querySelector("form[data-schedule]");
  const place = form.querySelector("[data-preview-place]");
  let timer;
  let asked;

  async function show() {
    asked?.abort();
    asked = new AbortController();
    const typed = new URLSearchParams(new FormData(form));
    typed.delete("csrf_token");
    try {
      const answer = await fetch(`${form.dataset.preview}?${typed}`, {
        redirect: "manual",
        headers: { Accept: "text/html" },
        signal: asked.signal,
      });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-schedule-words]");
      if (fresh) place.replaceChildren(document.adoptNode(fresh));
    } catch (error) {
      if (error.name !== "AbortError") place.textContent = "The next runs can't be shown now: no answer from the server.";
    }
  }

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, PAUSE_MS);
  });
  // Somebody may have started typing before this script loaded.
  const isChanged = (field) =>
    field.options ? [...field.options].some((option) => option.selected !== option.defaultSelected) : field.value !== field.defaultValue;
  if ([...form.elements].some((field) => (field.options || "defaultValue" in field) && isChanged(field))) show();
  addEventListener("pageshow", (event) => {
    if (event.persisted) show();
  });
})();
