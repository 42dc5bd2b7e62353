// Swagger UI over this service's own document. Requests go to the origin that the page came from.
"use strict";

document.addEventListener("DOMContentLoaded", async () => {
  const place = document.querySelector("#swagger-ui");
  const description = await (await fetch(place.dataset.document)).json();
  description.servers = [{ url: location.origin }];
  SwaggerUIBundle({
    spec: description,
    domNode: place,
    deepLinking: false,
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    validatorUrl: null,
  });
  const follow = () => {
    const { classList, dataset } = document.documentElement;
    classList.toggle("dark-mode", dataset.shown === "dark");
  };
  new MutationObserver(follow).observe(document.documentElement, { attributeFilter: ["data-shown"] });
  follow();
});
