// From the address to what is seen: each change of the state asks for what it needs and draws it.

import { ask } from "./api.js";
import { counted, h, replace, time } from "./dom.js";
import * as graph from "./graph.js";
import * as panel from "./panel.js";
import * as questions from "./questions.js";
import { focusSearch } from "./search.js";
import { address, go, onchange, read } from "./state.js";
import * as tree from "./tree.js";

const byId = (id) => document.getElementById(id);
const KEYS = "/ search · arrows: from box to box, and into columns · enter: focus on a box, follow a column · o: its columns · u, d: more upstream, downstream · e: what its lines say · t: tree · + − 0: zoom · esc: back";
const TOAST_MS = 5_000, LONG_TOAST_MS = 15_000, AGAIN_MS = 3_000;
let moments = [], stamp = "", away = false;

async function show(state, anchor, isNews = false) {
  const asked = questions.hasForm(state.view);
  byId("graph").hidden = asked;
  byId("answer").hidden = !asked;
  byId("layout").classList.toggle("asked", asked);
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  slider(state);
  if (asked) {
    document.title = `${state.view} · Lineage`;
    await questions.show(state, isNews);
    return;
  }
  if (!state.focus) {
    await begin(state);
    return;
  }
  document.title = `${state.column || state.focus} · Lineage`;
  await Promise.all([draw(state, anchor), panel.show(state)]);
}

async function draw(state, anchor) {
  const { focus, show: expanded, open, rows, find, column, until, only, as_of } = state;
  const view = { focus, show: expanded, open, rows, find, column, until, only, as_of };
  try {
    const picture = await ask("graph", view, { body: anchor || graph.shown()?.focus === focus ? graph.prior() : null });
    graph.show(picture, { anchor });
    bar(picture, state);
    await new Promise((done) => setTimeout(done)); // the picture is seen before the tree is made
    performance.mark("drawn");
    if (graph.shown() === picture) tree.show(picture);
    notice("");
  } catch (error) {
    if (error.name === "AbortError") return;
    notice(error.message, state.as_of);
  }
}

function trees(shown) {
  byId("layout").classList.toggle("without-tree", !shown);
  byId("trees")?.setAttribute("aria-pressed", String(shown));
  if (shown) byId("tree").querySelector("[tabindex='0']")?.focus();
  graph.resized();
}

// What was drawn before fades, since it does not answer what was asked.
function notice(text, as_of = "") {
  const old = byId("graph").querySelector(".problem");
  old?.remove();
  byId("graph").classList.toggle("refused", Boolean(text));
  if (!text) return;
  const start = { focus: "", column: "", until: "", only: "", show: [], open: [], rows: [], find: [], from: "", to: "" };
  const act = (told, changes) => h("button", { type: "button", onclick: () => go(changes) }, told);
  byId("graph").append(h("div", { class: "problem over", role: "alert" }, h("h2", {}, "This could not be drawn"), h("p", {}, text),
    h("div", { class: "actions" }, as_of ? [act("See what was there then", start), h("button", { type: "button", onclick: () => travel(moments.length) }, "Show the current state")] : act("Start again", { ...start, as_of: "" }))));
}

// Without a focus the page opens on what serves predictions, or else on what has most around it.
async function begin(state) {
  try {
    const found = await ask("start", { as_of: state.as_of });
    if (found.focus) return go({ focus: found.focus, show: state.show.length ? state.show : found.show }, { replace: true });
  } catch (error) {
    return notice(error.message, state.as_of);
  }
  replace(byId("panel"));
  notice(""); // the page may have said so before
  byId("graph").append(h("div", { class: "problem over" }, h("h2", {}, "Nothing was materialized yet"), h("p", {}, "Materialize assets in Dagster, or run ", h("code", {}, "bikes run"), "; this page then shows what was computed from what.")));
}

function bar(picture, state) {
  const hidden = byId("layout").classList.contains("without-tree");
  const parts = [h("button", { type: "button", id: "trees", "aria-pressed": String(!hidden), "aria-controls": "side", title: "The graph as a tree ( t )", onclick: () => trees(hidden) }, "Tree")];
  if (picture.column) {
    parts.push(h("span", { class: "followed" }, h("b", {}, picture.until ? `${picture.column} to ${picture.until}` : picture.column), picture.until ? ` ${Math.max(picture.on_path.downstream - 1, 0)} between` : ` ${counted(picture.on_path.upstream, "column")} upstream, ${picture.on_path.downstream} downstream`),
      h("button", { type: "button", id: "only", "aria-pressed": String(state.only === "1"), onclick: () => go({ only: state.only === "1" ? "" : "1" }) }, "Only this path"),
      h("button", { type: "button", id: "let-go", "aria-label": "Let go of the column", onclick: () => go({ column: "", until: "", only: "" }) }, "×"));
  }
  if (picture.left_out) parts.push(h("span", { class: "left-out", role: "status" }, `${picture.boxes.length} boxes are drawn, ${picture.left_out.toLocaleString("en")} more are not: start from one of them, or ask for the impact.`));
  const had = document.activeElement?.closest("#bar button")?.id;
  replace(byId("bar"), parts);
  if (had) (byId(had) ?? byId("trees")).focus();
}

async function load() {
  const state = read();
  try {
    moments = await ask("moments");
    slider(state);
    const statuses = await ask("status", { as_of: state.as_of }, { kind: "strips" });
    panel.setStatuses(statuses);
    graph.setStrips(statuses);
    legend(statuses, state.as_of);
    if (state.view === "graph") panel.refresh(read());
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
  }
}

function slider(state) {
  const footer = byId("time");
  if (moments.length < 2) return replace(footer);
  const now = moments.length, at = state.as_of ? moments.filter((moment) => moment <= Date.parse(state.as_of) / 1000 + 0.999).length - 1 : now;
  const back = state.as_of ? h("button", { type: "button", onclick: () => travel(now) }, "Back to now") : null;
  if (footer.querySelector("input") === document.activeElement && footer.contains(document.activeElement)) {
    footer.querySelector("output").textContent = state.as_of ? `as of ${state.as_of.replace("T", " ")}` : "now";
    footer.querySelector("button")?.remove();
    if (back) footer.append(back);
    return footer;
  }
  const output = h("output", { for: "moment" }, state.as_of ? `as of ${state.as_of.replace("T", " ")}` : "now");
  const input = h("input", { id: "moment", type: "range", min: 0, max: now, value: Math.max(at, 0), "aria-label": "State at a past time", oninput: (event) => told(Number(event.target.value), output), onchange: (event) => travel(Number(event.target.value)) });
  return replace(footer, h("span", {}, time(moments[0])), input, output, back);
}

const at = (index) => (index >= moments.length ? "" : new Date(Math.ceil(moments[index]) * 1000));
const written = (date) => (date ? `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}` : "");
const two = (number) => String(number).padStart(2, "0");

function told(index, output) {
  output.textContent = index >= moments.length ? "now" : `as of ${written(at(index)).replace("T", " ")}`;
  byId("moment").setAttribute("aria-valuetext", output.textContent);
}

function travel(index) {
  graph.forget();
  go({ as_of: written(at(index)) }, { anchor: graph.shown()?.focus });
  load();
}

function toast(text, duration = TOAST_MS) {
  byId("toast").textContent = text;
  if (duration) setTimeout(() => { if (byId("toast").textContent === text) byId("toast").textContent = ""; }, duration);
}

// One page of a browser listens for news and tells the others, for a browser has few connections for all its pages.
function live() {
  const others = new BroadcastChannel("news");
  const tell = (now) => { heard(now); others.postMessage(now); };
  const listen = () => {
    const source = new EventSource("/api/news");
    source.addEventListener("stamp", (event) => tell(event.data));
    source.addEventListener("error", () => {
      tell("");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS); // else it connects again by itself
    });
    return new Promise(() => {}); // as long as the page is open
  };
  others.addEventListener("message", (event) => heard(event.data));
  if (navigator.locks) navigator.locks.request("news", listen);
  else listen();
}

async function heard(now) {
  const wasAway = away, isNews = now && stamp && stamp !== now && !read().as_of;
  away = !now;
  stamp = now || stamp;
  if (away) toast("The server does not answer.", 0);
  else if (wasAway || isNews) await refresh();
}

async function refresh() {
  graph.forget();
  await show(read(), graph.shown()?.focus ?? "", true);
  await load();
  toast(`Updated at ${time(Date.now() / 1000).slice(11)}`);
}

// Of a past time only that is known: what was materialized by then.
function legend(statuses = [], as_of = "") {
  const rare = ["pending", "skipped"].filter((name) => statuses.some((item) => item.state === name));
  const states = as_of ? ["materialized", "missing"] : ["fresh", "stale", "missing", "failed", ...rare];
  replace(byId("legend"), states.map((state) => h("span", {}, h("i", { class: `tile ${state}` }), state)));
}

document.addEventListener("click", (event) => {
  const view = event.target.closest("[data-view]")?.dataset.view;
  if (view) {
    const { focus, column } = read();
    go({ view, address: view === "impact" ? read().address || column || focus : read().address, tab: "" });
  }
  const by = event.target.closest("[data-zoom]")?.dataset.zoom;
  if (by) ({ in: () => graph.zoom(1.25), out: () => graph.zoom(0.8), fit: graph.fit, keys: () => toast(KEYS, LONG_TOAST_MS) })[by]();
  if (event.target.closest("[data-go=home]")) {
    event.preventDefault();
    history.pushState({}, "", "/");
    show(read(), "");
  }
});

byId("copy").addEventListener("click", async () => {
  const url = location.origin + address(read());
  try {
    await navigator.clipboard.writeText(url);
    toast("The address of this view is copied.");
  } catch {
    toast(url);
  }
});

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const state = read();
  const acts = {
    "/": focusSearch, "+": () => graph.zoom(1.25), "=": () => graph.zoom(1.25), "-": () => graph.zoom(0.8), 0: graph.fit,
    g: () => { const box = graph.shown(); if (box) graph.focusBox(box.focus); }, t: () => trees(true),
    Escape: () => {
      if (state.from) go({ from: "", to: "", tab: "" });
      else if (state.column) go({ column: "", until: "", only: "" });
      else if (state.view !== "graph") go({ view: "graph" });
    },
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});

byId("layout").classList.toggle("without-tree", innerWidth < 1500 && innerWidth > 760);
onchange(show);
legend();
const begun = ask("changes", {}, { quiet: true }).then((found) => { stamp ||= found.stamp; }, () => {});
show(read(), "").finally(async () => {
  await begun; // what is materialized from then on is news
  live();
  load(); // states are read from the lake: the picture comes first
});
