// What a script adds to the portal's pages, beside base.js: one choice of language for all examples,
// links to sections, and search.
"use strict";

function addLanguages() {
  const tabs = [...document.querySelectorAll(".examples > input")];
  const choose = (language) => {
    for (const tab of tabs) if (tab.labels[0].textContent === language) tab.checked = true;
  };
  for (const tab of tabs) {
    tab.addEventListener("change", () => {
      const before = tab.getBoundingClientRect().top;
      choose(tab.labels[0].textContent);
      storage.set("language", tab.labels[0].textContent);
      // Examples above may have changed their height.
      scrollBy({ top: tab.getBoundingClientRect().top - before, behavior: "instant" });
    });
  }
  const chosen = storage.get("language");
  if (chosen) choose(chosen);
}

function addPermalinks() {
  for (const heading of document.querySelectorAll("main :is(h2, h3)")) {
    const { id } = heading.id ? heading : heading.parentElement;
    if (!id) continue;
    const link = element("a", { className: "permalink", href: `#${id}` }, "#");
    link.setAttribute("aria-label", `Link to ${heading.textContent}`);
    heading.append(link);
  }
}

function followReading() {
  const links = new Map();
  for (const link of document.querySelectorAll(".outline a[href^='#']")) {
    const target = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (target) links.set(target, link);
  }
  const mark = () => {
    let here = null;
    for (const [target, link] of links) {
      if (target.getBoundingClientRect().top < innerHeight / 4) here = link;
    }
    for (const link of links.values()) link.classList.toggle("here", link === here);
  };
  let isAsked = false;
  addEventListener("scroll", () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => { isAsked = false; mark(); });
  }, { passive: true });
  mark();
}

function addDrawer() {
  const menu = document.querySelector("#menu");
  const close = () => { menu.checked = false; };
  document.querySelector(".outline").addEventListener("click", (event) => {
    if (event.target.closest("a")) close();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
}

// --- search ---------------------------------------------------------------------------------

const MAX_RESULTS = 12;
const EXCERPT_CHARACTERS = 140;

function score(entry, words) {
  const title = entry.title.toLowerCase();
  const text = entry.text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    if (title.startsWith(word)) sum += 12;
    else if (title.includes(word)) sum += 8;
    else if (text.includes(word)) sum += 1;
    else return 0;
  }
  return sum;
}

function excerpt(text, words) {
  const found = words.map((word) => [text.toLowerCase().indexOf(word), word.length])
    .filter(([at]) => at >= 0).sort(([a], [b]) => a - b)[0];
  if (!found) return [text.slice(0, EXCERPT_CHARACTERS)];
  const [at, length] = found;
  const begin = Math.max(0, at - 40);
  return [
    (begin ? "…" : "") + text.slice(begin, at),
    element("mark", {}, text.slice(at, at + length)),
    text.slice(at + length, begin + EXCERPT_CHARACTERS),
  ];
}

function addSearch() {
  const dialog = document.querySelector("dialog");
  const input = dialog.querySelector("input");
  const results = dialog.querySelector(".results");
  const found = dialog.querySelector(".found");
  const button = document.querySelector(".search-open");
  let index = null;

  async function search() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    index ??= fetch(dialog.dataset.index).then((answer) => answer.json());
    const entries = (await index).map((entry) => [score(entry, words), entry])
      .filter(([sum]) => sum > 0).sort(([a], [b]) => b - a).slice(0, MAX_RESULTS);
    results.replaceChildren(...(words.length ? entries : []).map(([, entry]) => element("li", {},
      element("a", { href: entry.url },
        element("strong", {}, entry.title),
        `${entry.page} · `, ...excerpt(entry.text, words)))));
    if (!words.length) found.textContent = "Words of the guide and the reference";
    else if (!results.children.length) found.textContent = "Nothing found";
    else found.textContent = "Enter opens the first, arrows choose another";
  }

  function open() {
    dialog.showModal();
    input.select();
    search();
  }

  button.hidden = false;
  button.addEventListener("click", open);
  input.addEventListener("input", search);
  addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, textarea, [contenteditable]");
    const isAsked = event.key === "/" || (event.key === "k" && (event.ctrlKey || event.metaKey));
    if (!isAsked || dialog.open || (isTyping && event.key === "/")) return;
    event.preventDefault();
    open();
  });
  dialog.addEventListener("keydown", (event) => {
    const links = [...results.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "ArrowDown") links[Math.min(at + 1, links.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (links[at - 1] ?? input).focus();
    else if (event.key === "Enter" && at < 0) links[0]?.click();
    else if (event.key === "Escape") dialog.close();  // even if there are words to clear
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("a")) dialog.close();
  });
}

document.addEventListener("DOMContentLoaded", () => {
  addLanguages();
  addPermalinks();
  addDrawer();
  followReading();
  addSearch();
});
