// What is known of the focus: what it is, its columns, versions, rows, metrics and state; or what a line of the picture says.

import { ask } from "./api.js";
import { counted, h, link, number, replace, s, time } from "./dom.js";
import { follow } from "./graph.js";
import { go, read } from "./state.js";

const panel = document.getElementById("panel");
const SOON_MS = 2000;
const TABS = { overview: "Overview", columns: "Columns", versions: "Versions", rows: "Rows", metrics: "Metrics", status: "State" };
const TYPES = { __proto__: null, int64: "#", float64: ".5", bool: "01", string: "Aa", timestamp: "◷" };

let overview = null;
let of = ""; // what the overview is of: a focus, and a time
let statuses = [];

export function setStatuses(found) {
  statuses = found;
}

export async function show(state) {
  try {
    if (state.from && state.to) return await edge(state);
    const found = await ask("overview", { address: state.focus, as_of: state.as_of });
    overview = found;
    of = subject(state);
    draw(state);
  } catch (error) {
    if (error.name !== "AbortError") replace(panel, problem(error));
  }
}

const subject = (state) => JSON.stringify([state.focus, state.as_of]);

// Draws what is known already once more, when states have come.
export function refresh(state) {
  if (overview && of === subject(state) && !(state.from && state.to)) draw(state);
}

export const problem = (error) => h("div", { class: "problem", role: "alert" }, h("h2", {}, "This could not be shown"), h("p", {}, error.message));

// What is in the place of an answer until it comes.
export function reading() {
  const node = h("p", { class: "muted", role: "status" }, "Reading …");
  setTimeout(() => replace(node, document.createTextNode("Reading … It waits for stored rows that are read, verified and computed again; what was asked before comes first.")), SOON_MS);
  return node;
}

function draw(state) {
  const tab = Object.hasOwn(TABS, state.tab) ? state.tab : "overview";
  const tabs = overview.kind === "job" ? ["overview"] : overview.kind === "dataset" || overview.kind === "source" ? ["overview", "columns"] : Object.keys(TABS).filter((name) => overview.kind !== "model" || (name !== "rows" && (name !== "columns" || overview.columns.total)));
  const select = (name) => go({ tab: name }, { replace: true });
  const keys = (event) => {
    const at = tabs.indexOf(tab), to = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(tabs[to % tabs.length]);
    panel.querySelector("[role=tab][aria-selected=true]")?.focus();
  };
  const body = h("div", { class: "tab", role: "tabpanel", id: "tab", tabindex: 0, "aria-label": TABS[tab] });
  const had = document.activeElement?.getAttribute("role") === "tab";
  replace(panel,
    h("p", { class: `kind ${overview.kind}` }, { dataset: "dataset of another tool", job: "job of another tool" }[overview.kind] ?? overview.kind),
    h("h2", {}, overview.title ?? overview.name),
    h("div", { class: "tabs", role: "tablist", "aria-label": "Details", onkeydown: keys },
      tabs.map((name) => h("button", { type: "button", role: "tab", "aria-selected": String(name === tab), "aria-controls": "tab", tabindex: name === tab ? 0 : -1, onclick: () => select(name) }, TABS[name]))),
    body);
  if (had) panel.querySelector("[role=tab][aria-selected=true]")?.focus();
  const made = { overview: about, columns, versions, rows, metrics, status }[tab](state, body);
  if (made instanceof Promise) {
    replace(body, reading());
    made.then((nodes) => replace(body, nodes)).catch((error) => { if (error.name !== "AbortError") replace(body, problem(error)); });
  } else {
    replace(body, made);
  }
}

const own = () => statuses.filter((item) => item.asset === overview.title);

function pairs(values) {
  return h("dl", {}, values.filter(([, value]) => value !== "" && value !== null && value !== undefined).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function about(state) {
  const { code, partitions, models, counts } = overview;
  if (overview.kind === "job") return [pairs(Object.entries(overview.facts).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]))];
  const late = own().filter((item) => !["fresh", "skipped", "materialized"].includes(item.state));
  return [
    overview.description ? h("p", {}, overview.description) : null,
    pairs([
      ["Owner", overview.owners.join(", ")],
      ["Upstream", counted(counts.upstream, "dataset")], ["Downstream", counted(counts.downstream, "dataset")],
      ["Partitions", partitions.total > 1 ? `${partitions.total}: ${partitions.first} to ${partitions.last}` : ""],
      ["Columns", overview.columns.total || ""],
      ["Code", code ? [h("code", {}, code.function.split(".").slice(-2).join(".")), h("br"), h("span", { class: "muted" }, `${code.file}:${code.line}`)] : ""],
      ["Aliases", models.aliases.length ? models.aliases.map((item) => [h("code", {}, item.name), ` is ${item.address}`]) : ""],
      ["Registered", models.versions.length ? counted(models.versions.length, "version") : ""],
    ]),
    own().length ? [h("h3", {}, "State"), summary(own()), late.length ? h("ul", { class: "reasons" }, late.slice(0, 6).map(reason)) : null] : null,
    h("div", { class: "actions" },
      h("button", { type: "button", onclick: () => go({ view: "impact", address: overview.name }) }, "Impact of a change"),
      h("button", { type: "button", onclick: () => go({ show: [`+${overview.name}`] }) }, "All upstream"),
      h("button", { type: "button", onclick: () => go({ show: [`${overview.name}+`] }) }, "All downstream"),
      overview.links.map((item) => link(item.url, `Open in ${item.title}`))),
    overview.columns.total ? [h("h3", {}, "Columns"), list(state, overview.columns.items.slice(0, 12)), overview.columns.total > 12 ? h("button", { type: "button", class: "plain", onclick: () => go({ tab: "columns" }, { replace: true }) }, `All ${overview.columns.total.toLocaleString("en")} columns`) : null] : null,
  ];
}

function summary(items) {
  const counts = new Map();
  for (const item of items) counts.set(item.state, (counts.get(item.state) ?? 0) + 1);
  return h("p", { class: "states" }, [...counts].map(([state, count]) => h("span", { class: `state ${state}` }, `${count} ${state}`)));
}

export const reason = (item) => h("li", {}, h("span", { class: `state ${item.state}` }, item.state), ` ${item.address}`, item.reasons.length ? [": ", h("span", { class: "muted" }, item.reasons.slice(0, 3).join("; "))] : null);

function list(state, items, missing = null) {
  return h("ul", { class: "columns" }, items.map((item) => h("li", {},
    h("button", { type: "button", class: state.column === item.address ? "chosen" : "", title: "Follow this column through the graph", onclick: () => follow(item.address, read().focus) },
      h("span", { class: "type", title: item.type || "unknown type" }, TYPES[item.type] ?? "·"), item.name, overview.columns.key.includes(item.name) ? h("small", { title: "part of the key" }, " key") : null),
    item.unit || item.allowed ? h("span", { class: "unit" }, [item.unit, item.allowed].filter(Boolean).join(", ")) : null,
    missing && item.name in missing ? h("span", { class: "unit" }, missing[item.name] ? `${number(Number((missing[item.name] * 100).toPrecision(2)))} % missing` : "none missing") : null,
    item.tags.length ? h("span", { class: "unit" }, item.tags.map((tag) => `#${tag}`).join(" ")) : null,
    item.meaning ? h("p", {}, item.meaning) : null)));
}

function columns(state, body) {
  const items = overview.columns.items, holder = h("div");
  const input = h("input", { type: "search", placeholder: `find among ${items.length.toLocaleString("en")} columns`, "aria-label": "Find a column", oninput: () => fill() });
  let missing = null;
  const fill = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = items.filter((item) => words.every((word) => `${item.name} ${item.meaning} ${item.unit}`.toLowerCase().includes(word)));
    replace(holder, found.length ? list(state, found.slice(0, 100), missing) : h("p", { class: "muted" }, "No column has these words."), found.length > 100 ? h("p", { class: "muted" }, `and ${found.length - 100} more; find narrows them down`) : null);
  };
  fill();
  if (overview.kind === "table" && overview.partitions.total) {
    ask("rows", { address: latest() }, { kind: "missing" }).then((found) => { missing = found.missing; fill(); }).catch(() => {});
  }
  return [input, holder];
}

function latest() {
  return overview.partitions.last ? part(overview.partitions.last) : overview.name;
}

const part = (key) => own().find((item) => item.partition === key)?.address ?? `${overview.name}[${key}]`;

function chooser(state, tab) {
  const keys = own().map((item) => item.partition).filter(Boolean);
  if (!keys.length) return null;
  const chosen = keys.includes(state.partition) ? state.partition : overview.partitions.last ?? keys.at(-1);
  return h("label", { class: "chooser" }, "Partition ", h("select", { onchange: (event) => go({ partition: event.target.value, tab }, { replace: true }) }, keys.map((key) => h("option", { value: key, selected: key === chosen }, key))));
}

const chosen = (state) => (own().some((item) => item.partition === state.partition) ? part(state.partition) : latest());

async function versions(state) {
  const found = await ask("versions", { address: chosen(state) });
  const newest = found.items[0]?.address;
  return [chooser(state, "versions"),
    found.items.length ? h("ol", { class: "timeline" }, found.items.map((item) => h("li", {},
      h("b", {}, item.address.slice(item.address.lastIndexOf("@"))), " ", h("time", {}, time(item.time)),
      h("p", {}, item.kinds.includes("missing") ? "first version" : item.reasons.join("; ") || "asked for"),
      item.kinds.includes("missing") ? null : h("p", { class: "muted" }, change(item.changed)),
      h("p", { class: "actions" }, item.page ? link(item.page, "Run in Dagster") : null, item.mlflow ? link(item.mlflow, "Run in MLflow") : null,
        item.address !== newest ? h("button", { type: "button", class: "plain", onclick: () => go({ view: "diff", a: item.address, b: newest }) }, "Compare with the newest") : null)))) : h("p", { class: "muted" }, "This partition was never materialized.")];
}

function change(columns) {
  if (!columns.length) return "content unchanged";
  if (columns[0] === "*") return "content changed"; // it has no columns
  return `changed: ${columns.slice(0, 6).join(", ")}${columns.length > 6 ? ` and ${columns.length - 6} more` : ""}`;
}

async function rows(state) {
  const found = await ask("rows", { address: chosen(state) });
  return [chooser(state, "rows"), h("p", { class: "muted" }, `${found.address}, ${counted(found.total, "row")}, digest ${found.digest.slice(0, 8)} verified`), table(found)];
}

function table(found) {
  const trace = (index) => (found.traces ? h("td", {}, h("button", { type: "button", class: "plain", onclick: () => go({ view: "trace", address: found.traces[index] }) }, "trace")) : null);
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Rows of ${found.address}` }, h("table", {},
    h("thead", {}, h("tr", {}, found.traces ? h("th", {}, h("span", { class: "hidden" }, "Trace")) : null, found.columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, found.rows.map((row, index) => h("tr", {}, trace(index), row.map((cell) => h("td", { class: typeof cell === "number" ? "number" : "" }, cell === null ? h("i", {}, "missing") : number(cell))))))));
}

async function metrics(state) {
  const found = await ask("metrics", { address: overview.name });
  const names = Object.keys(found.metrics);
  return [
    Object.entries(found.plots).map(([title, svg]) => h("figure", {}, h("img", { alt: `${title} of ${found.newest}`, src: `data:image/svg+xml,${encodeURIComponent(svg)}` }), h("figcaption", {}, `${title}, ${found.newest}`))),
    names.length ? h("div", { class: "sparks" }, names.map((name) => spark(name, found.partitions, found.metrics[name]))) : h("p", { class: "muted" }, "No metrics were recorded."),
    h("p", { class: "actions" }, found.mlflow ? link(found.mlflow, "Newest run in MLflow") : null),
  ];
}

function spark(name, partitions, values) {
  const known = values.map((value, at) => [at, value]).filter(([, value]) => typeof value === "number");
  if (!known.length) return null;
  const numbers = known.map(([, value]) => value), low = Math.min(...numbers), high = Math.max(...numbers), wide = 130, tall = 30;
  const point = ([at, value]) => `${((at + 0.5) / values.length) * wide},${tall - 3 - ((value - low) / (high - low || 1)) * (tall - 6)}`;
  const last = known.at(-1);
  return h("div", { class: "spark" }, h("span", {}, name), s("svg", { viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": `${name}: ${number(last[1])} in ${partitions[last[0]] || "all"}, from ${number(low)} to ${number(high)}` }, s("polyline", { points: known.map(point).join(" ") })), h("b", {}, number(Number(last[1].toPrecision(4)))));
}

function status() {
  const items = own();
  if (!items.length) return [h("p", { class: "muted" }, "Nothing is known of its state.")];
  return [summary(items), h("ul", { class: "reasons" }, [...items].reverse().map(reason))];
}

async function edge(state) {
  const found = await ask("edge", { source: state.from, target: state.to, as_of: state.as_of });
  const { code, evidence } = found;
  replace(panel, h("p", { class: "kind" }, "edge"), h("h2", {}, found.source, " → ", found.target),
    h("p", {}, found.meaning),
    pairs([["Kind", found.kinds.map((kind, at) => [h("code", {}, kind), `: ${found.told[at]}`, h("br")])],
      ["Evidence", evidence ? observed(evidence) : "declared; not verified by perturbation"],
      ["Code", code ? [h("code", {}, code.function.split(".").slice(-3).join(".")), h("br"), h("span", { class: "muted" }, `${code.file}:${code.line}${found.commit ? ` at ${found.commit.slice(0, 8)}` : ""}`)] : ""]]),
    code?.text ? h("pre", { tabindex: 0, "aria-label": "Source text" }, code.text) : null,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: () => go({ from: "", to: "", tab: "overview" }) }, "Back to the overview")));
}

function observed(evidence) {
  const when = evidence.time ? ` on ${time(evidence.time)}` : "";
  const told = { observed: "observed: the output moved when this input was perturbed", "missing only": "observed where the input was missing", "not observed": "not observed: the output did not move", unverified: "declared; not verified by perturbation" };
  return `${told[evidence.state] ?? evidence.state}${when}${evidence.trials ? `, in ${counted(evidence.trials, "trial")} on ${counted(evidence.rows ?? 0, "row")}` : ""}`;
}
