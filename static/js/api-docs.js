// Swagger UI over our own document. Requests use the visitor's session, so writes carry its CSRF token.
(() => {
  "use strict";

  const place = document.getElementById("api-docs");
  const token = document.querySelector("meta[name=csrf-token]")?.content;

  document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.bsTheme === "dark");

  // Swagger UI shows a parameter's name beside its field, but does not label it for screen readers.
  new MutationObserver(() => {
    for (const field of place.querySelectorAll("tr[data-param-name] :is(input, select, textarea):not([aria-label])")) {
      field.setAttribute("aria-label", field.closest("tr").dataset.paramName);
    }
  }).observe(place, { childList: true, subtree: true });

  SwaggerUIBundle({
    domNode: place,
    url: place.dataset.document,
    presets: [SwaggerUIBundle.presets.apis],
    // The validator is a service on the network.
    validatorUrl: null,
    filter: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    requestInterceptor: (request) => {
      if (token && !["GET", "HEAD"].includes((request.method || "GET").toUpperCase())) request.headers["X-CSRFToken"] = token;
      return request;
    },
  });
})();
