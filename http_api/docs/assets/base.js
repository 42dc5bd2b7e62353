// What a script adds to all pages, the portal's and the console's: the theme that a reader chose, and
// copy buttons.
"use strict";

const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");

// A browser may refuse storage; then choices last as long as the page.
const storage = {
  get(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  },
  set(name, value) {
    try { localStorage.setItem(name, value); } catch { /* nowhere to keep it */ }
  },
};

function showTheme() {
  const chosen = root.dataset.theme;
  root.dataset.shown = chosen || (dark.matches ? "dark" : "light");
}

// At once, so that the page does not flash in the other theme.
const kept = storage.get("theme");
if (kept === "light" || kept === "dark") root.dataset.theme = kept;
showTheme();
dark.addEventListener("change", showTheme);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function addTheme() {
  const button = document.querySelector(".theme");
  const label = () => {
    const other = root.dataset.shown === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Switch to the ${other} theme`);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = root.dataset.shown === "dark" ? "light" : "dark";
    storage.set("theme", root.dataset.theme);
    showTheme();
    label();
  });
  dark.addEventListener("change", label);
  label();
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers have no clipboard for pages over plain HTTP from another machine.
  const area = element("textarea", { value: text, className: "hidden" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function addCopyButtons() {
  for (const code of document.querySelectorAll(".code > pre > code")) {
    const button = element("button", { type: "button", className: "copy" }, "Copy");
    button.addEventListener("click", async () => {
      await copy(code.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    code.parentElement.after(button);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  addTheme();
  addCopyButtons();
});
