// Live progress: fetch the same partial that the page was rendered with, once a second, and replace it.
(() => {
  "use strict";
  const EVERY_MS = 1000;
  const SLOWEST_MS = 15000;
  const STALE_MS = 10000;
  let shownAt = Date.now();
  const announcements = document.getElementById("announcements");
  const announce = (text) => {
    announcements.textContent = text;
  };
  const parse = (html) => new DOMParser().parseFromString(html, "text/html");

  // Never discard what somebody is typing: such a region is refreshed when the focus leaves it, or not at all once it was edited.
  function isBeingEdited(region) {
    const fields = [...region.querySelectorAll("input:not([type=hidden]), textarea")];
    if (fields.some((field) => field.value !== field.defaultValue)) return true;
    const focused = region.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
    if (focused) document.activeElement.addEventListener("blur", () => refreshPage(), { once: true });
    return focused;
  }

  // A run that began or ended changes more than its progress: refresh every region that depends on it, except
  // the one with the id `kept`.
  async function refreshPage(kept) {
    let fresh;
    shownAt = Date.now();
    try {
      const answer = await fetch(location.href, { redirect: "manual" });
      if (!answer.ok) return location.reload();
      fresh = parse(await answer.text());
    } catch {
      return setTimeout(() => refreshPage(kept), 2 * EVERY_MS);
    }
    document.querySelectorAll("[data-refresh]").forEach((region) => {
      if (isBeingEdited(region) || region.id === kept) return;
      const replacement = fresh.getElementById(region.id);
      const hadFocus = region.contains(document.activeElement);
      if (!replacement) return region.remove();
      region.replaceWith(document.adoptNode(replacement));
      if (hadFocus) document.getElementById("main").focus();
    });
    document.title = fresh.title;
    watchAll();
  }

  function watch(element) {
    let wait = EVERY_MS;
    const state = element.dataset.state;
    let phase = element.dataset.phase;
    element.dataset.watched = "yes";

    async function tick() {
      if (!element.isConnected) return;
      try {
        const answer = await fetch(element.dataset.live, { redirect: "manual", headers: { Accept: "text/html" } });
        if (answer.type === "opaqueredirect" || answer.status === 401) {
          return stop("You are logged out. Log in again to follow this.");
        }
        if (answer.status === 404) return stop("This was deleted.");
        if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
        const fresh = parse(await answer.text()).querySelector("[data-progress]");
        fresh.dataset.watched = "yes";
        element.replaceWith(document.adoptNode(fresh));
        element = fresh;
        wait = EVERY_MS;
      } catch {
        wait = Math.min(wait * 2, SLOWEST_MS);
        note("No answer from the server; trying again.");
      }
      if (element.dataset.phase !== phase) {
        phase = element.dataset.phase;
        announce(phase);
      }
      if (element.dataset.live && element.dataset.state === state) setTimeout(tick, wait);
      else refreshPage();
    }

    function note(text) {
      const place = element.querySelector("[data-note]");
      if (place) place.textContent = text;
    }

    function stop(text) {
      note(text);
      announce(text);
    }

    setTimeout(tick, wait);
  }

  function watchAll() {
    document.querySelectorAll("[data-live]:not([data-watched])").forEach(watch);
  }
  watchAll();

  // A page left open must not show stale data to whoever returns to it. No timer: it would keep a login alive.
  function comeBack() {
    const isStale = Date.now() - shownAt > STALE_MS && !document.querySelector("[data-watched]");
    if (isStale && !document.hidden && document.querySelector("[data-renew]")) refreshPage("flashes");
  }
  document.addEventListener("visibilitychange", comeBack);
  addEventListener("focus", comeBack);
})();
