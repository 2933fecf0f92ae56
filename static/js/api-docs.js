// Swagger UI over our own document. Requests go out with the session of who looks at the page, so writes get its CSRF token.
(() => {
  "use strict";

  const place = document.getElementById("api-docs");
  const token = document.querySelector("meta[name=csrf-token]")?.content;

  document.documentElement.classList.toggle("dark-mode", document.documentElement.dataset.bsTheme === "dark");

  SwaggerUIBundle({
    domNode: place,
    url: place.dataset.document,
    presets: [SwaggerUIBundle.presets.apis],
    // The validator would be asked over the network.
    validatorUrl: null,
    deepLinking: true,
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
