// Swagger UI over this service's own document. Requests go to the origin that the page came from.
"use strict";

// What Swagger UI leaves without a name, or out of reach of a keyboard.
function name(place) {
  for (const area of place.querySelectorAll("textarea")) area.ariaLabel ??= "Request body";
  for (const list of place.querySelectorAll("select")) list.ariaLabel ??= "Example or media type";
  for (const code of place.querySelectorAll(".microlight")) code.tabIndex = 0;
}

// Credential and operations alone: the page around them has the rest, and the reference.
const layout = ({ React }) => ({
  components: {
    Explorer: ({ getComponent }) => React.createElement(
      "div", { className: "swagger-ui" },
      ...["SvgAssets", "AuthorizeBtnContainer", "operations"].map(
        (name) => React.createElement(getComponent(name, true), { key: name }),
      ),
    ),
  },
});

document.addEventListener("DOMContentLoaded", async () => {
  const place = document.querySelector("#swagger-ui");
  const description = await (await fetch(place.dataset.document)).json();
  description.servers = [{ url: location.origin }];
  new MutationObserver(() => name(place)).observe(place, { childList: true, subtree: true });
  SwaggerUIBundle({
    spec: description,
    domNode: place,
    deepLinking: false,
    layout: "Explorer",
    plugins: [layout],
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
