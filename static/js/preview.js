// The quick preview is on the page; fetch the exact one, rendered from the same partial, and replace it.
(() => {
  "use strict";
  const place = document.querySelector("[data-exact]");
  if (!place) return;
  const announcements = document.getElementById("announcements");

  // Keep expanded lists and the scroll position, since somebody may be reading them.
  function replace(fresh) {
    const open = [...place.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent.trim());
    const hadFocus = place.contains(document.activeElement);
    place.replaceChildren(document.adoptNode(fresh));
    place.querySelectorAll("details > summary").forEach((summary) => {
      if (open.includes(summary.textContent.trim())) summary.parentElement.open = true;
    });
    if (hadFocus) document.getElementById("main").focus({ preventScroll: true });
  }

  function fail(text) {
    const note = place.querySelector("[data-note]");
    place.querySelector("[data-counting] .pulse")?.remove();
    note.textContent = `${text} The figures marked ≈ are estimates. `;
    const again = document.createElement("a");
    again.href = "";
    again.textContent = "Try again";
    note.append(again);
    announcements.textContent = text;
  }

  async function count() {
    try {
      const answer = await fetch(place.dataset.exact, { redirect: "manual", headers: { Accept: "text/html" } });
      if (answer.type === "opaqueredirect" || answer.status === 401) return fail("You are logged out.");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-preview]");
      if (!answer.ok || !fresh) return fail("The exact count failed.");
      if (fresh.dataset.counted !== "yes") fresh.querySelector("[data-counting]")?.remove();
      replace(fresh);
      announcements.textContent = fresh.dataset.counted === "yes" ? "Counted exactly." : "";
    } catch {
      fail("No answer from the server.");
    }
  }
  count();
})();
