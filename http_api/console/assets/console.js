// What a script adds to the console's pages, which work without one: new events as they come, buttons
// that copy, and a link's sign-in that needs no push. base.js comes before it.
"use strict";

function addCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy(button.dataset.copy);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
}

function followEvents() {
  const list = document.querySelector("[data-stream]");
  if (!list) return;
  const status = document.querySelector(".live");
  const older = document.querySelector(".pager .older");
  let source = null;

  const say = (state, text) => {
    if (status.dataset.state === state && status.textContent === text) return;
    status.dataset.state = state;
    status.textContent = text;
  };

  // The ids of events sort by the time of receipt, which is the order of the list.
  function insert(row) {
    const after = [...list.children].find((one) => one.dataset.id <= row.dataset.id);
    if (after?.dataset.id === row.dataset.id) return;
    row.classList.add("fresh");
    list.insertBefore(row, after ?? null);
  }

  function show(html) {
    const rows = element("template", { innerHTML: html }).content;
    for (const row of [...rows.children]) insert(row);
    while (list.children.length > Number(list.dataset.most)) list.lastElementChild.remove();
    if (list.children.length) document.querySelector("#nothing")?.remove();
    if (older && list.children.length) {
      const address = new URL(older.href);
      address.searchParams.set("before", list.lastElementChild.dataset.id);
      older.href = address;
    }
  }

  // What came while nobody listened can be more than is sent: then the list begins anew.
  function begin(html) {
    const rows = element("template", { innerHTML: html }).content;
    const known = new Set([...list.children].map((row) => row.dataset.id));
    const isGap = known.size && ![...rows.children].some((row) => known.has(row.dataset.id));
    if (isGap && rows.children.length) list.replaceChildren();
    show(html);
  }

  function listen() {
    source = new EventSource(list.dataset.stream);
    const on = (name, react) => source.addEventListener(name, (event) => react(event.data));
    on("open", () => say("on", "Live"));
    on("latest", begin);
    on("events", (html) => { say("on", "Live"); show(html); });
    on("skipped", () => say("on", "Live, with more than can be shown"));
    on("away", () => say("away", "The database does not answer; trying again"));
    on("back", () => say("on", "Live"));
    on("ended", (why) => {
      source.close();
      say("away", `No longer live: ${why}`);
    });
    source.addEventListener("error", () => {
      const isOver = source.readyState === EventSource.CLOSED;
      say("away", isOver ? "Not live: reload to see newer ones" : "Connecting again");
    });
  }

  // A page that nobody looks at asks for nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (!source || source.readyState === EventSource.CLOSED) listen();
  });
  if (!document.hidden) listen();
}

document.addEventListener("DOMContentLoaded", () => {
  addCopying();
  followEvents();
  // On a phone the tabs are wider than the screen.
  document.querySelector(".tabs [aria-current]")?.scrollIntoView({
    behavior: "instant", block: "nearest", inline: "center",
  });
  document.querySelector("form[data-send]")?.requestSubmit();
});
