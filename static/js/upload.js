// Submit the upload form with progress (it also works without this script), and accept a file dropped on the page's drop area.
(() => {
  "use strict";
  const form = document.querySelector("form[data-upload]");
  const input = form.querySelector("input[type=file]");
  const drop = form.querySelector("[data-drop]");
  const panel = form.querySelector("[data-upload-progress]");
  const send = form.querySelector("button[type=submit]");
  const stop = form.querySelector("[data-stop]");
  const errors = document.getElementById("upload-error");
  const announcements = document.getElementById("announcements");
  const part = (name) => panel.querySelector(`[data-${name}]`);
  const UNITS = ["B", "kB", "MB", "GB", "TB"];

  function size(bytes) {
    let unit = 0;
    for (; bytes >= 999.5 && unit < UNITS.length - 1; unit += 1) bytes /= 1000;
    return `${Number(bytes.toPrecision(3))} ${UNITS[unit]}`;
  }

  function duration(seconds) {
    if (seconds < 60) return `about ${Math.max(1, Math.round(seconds))} s left`;
    return `about ${Math.ceil(seconds / 60)} min left`;
  }

  function showChosen() {
    const file = input.files[0];
    form.querySelector("[data-chosen]").textContent = file ? `${file.name}, ${size(file.size)}` : "or drop it here";
  }
  input.addEventListener("change", showChosen);

  for (const type of ["dragenter", "dragover"]) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("drop-over");
    });
  }
  drop.addEventListener("dragleave", (event) => {
    if (!drop.contains(event.relatedTarget)) drop.classList.remove("drop-over");
  });
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("drop-over");
    if (input.disabled || !event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    showChosen();
    send.focus();
  });
  // A file that misses the area must not replace the page.
  for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());

  function blame(yes) {
    input.classList.toggle("is-invalid", yes);
    if (yes) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  function busy(yes) {
    input.disabled = send.disabled = yes;
    panel.hidden = stop.hidden = !yes;
    drop.classList.toggle("drop-busy", yes);
  }

  function fail(html, text) {
    busy(false);
    delete form.dataset.sent;
    const refusal = html && new DOMParser().parseFromString(html, "text/html").getElementById("upload-error");
    if (refusal && refusal.childElementCount) {
      errors.replaceChildren(...[...refusal.childNodes].map((node) => document.adoptNode(node)));
    } else {
      const notice = document.createElement("div");
      notice.className = "alert alert-danger notice";
      notice.textContent = text;
      errors.replaceChildren(notice);
    }
    blame(true);
    errors.focus();
  }

  form.addEventListener("submit", (event) => {
    if (!input.files.length) return;
    event.preventDefault();
    const largest = Number(form.dataset.largest);
    if (largest && input.files[0].size > largest) return fail("", `The file is larger than the ${size(largest)} that are allowed here.`);
    const body = new FormData(form);
    const request = new XMLHttpRequest();
    const began = performance.now();
    errors.replaceChildren();
    blame(false);
    part("words").textContent = "Sending";
    busy(true);

    request.upload.addEventListener("progress", (moment) => {
      if (!moment.lengthComputable) return;
      const seconds = (performance.now() - began) / 1000;
      const rate = moment.loaded / Math.max(seconds, 0.001);
      panel.querySelector("progress").value = (100 * moment.loaded) / moment.total;
      part("percent").textContent = `${Math.floor((100 * moment.loaded) / moment.total)} %`;
      part("bytes").textContent = `${size(moment.loaded)} of ${size(moment.total)}`;
      part("rate").textContent = seconds > 1 ? `${size(rate)}/s` : "";
      part("left").textContent = seconds > 1 ? duration((moment.total - moment.loaded) / rate) : "";
    });
    request.upload.addEventListener("load", () => {
      panel.querySelector("progress").removeAttribute("value");
      part("words").textContent = "Writing the archive to the disk";
      for (const name of ["percent", "rate", "left"]) part(name).textContent = "";
      announcements.textContent = "Sent. The archive is checked next.";
    });
    request.addEventListener("load", () => {
      const page = request.getResponseHeader("Location");
      if (request.status === 202 && page) return location.assign(page);
      const loggedOut = request.responseURL && new URL(request.responseURL).pathname === "/login";
      fail(request.responseText, loggedOut ? "You are logged out. Log in and send the file again." : "The server did not accept the file. Try again; its log has the cause.");
    });
    request.addEventListener("error", () => fail("", "The connection was lost, so nothing was kept. Send the file again."));
    request.addEventListener("abort", () => fail("", "Stopped. Nothing was kept."));
    request.open("POST", form.getAttribute("action"));
    request.setRequestHeader("X-Requested-With", "XMLHttpRequest");
    request.setRequestHeader("Accept", "text/html");
    stop.onclick = () => request.abort();
    request.send(body);
  });
})();
