// The questions that take the whole place of the graph: impact, path, trace, diff, state of everything, and what is unused.

import { ask } from "./api.js";
import { counted, h, number, replace } from "./dom.js";
import { problem, reading, reason } from "./panel.js";
import { lead } from "./search.js";
import { go } from "./state.js";

const page = document.getElementById("answer");
const FORMS = {
  impact: { title: "Impact of a change", about: "Everything downstream of an address, what serves predictions first.", fields: { address: ["Address", "hourly_rentals.temp"] } },
  path: { title: "Paths", about: "How one thing reaches another.", fields: { start: ["From", "rental_records.temp"], end: ["To", "demand_predictions.prediction"] } },
  trace: { title: "Trace of a row", about: "From one value back to the model, the features and the raw rows, with verified digests.", fields: { address: ["Row", "demand_predictions.prediction[2012-08]#2012-08-14T17:00"] } },
  diff: { title: "Why two versions differ", about: "Root causes first: rows, code, settings.", fields: { a: ["Version", "demand_model@3"], b: ["and", "demand_model@champion"] } },
  status: { title: "State of everything", about: "What is fresh, stale, missing or failed, and why.", fields: {} },
  waste: { title: "Unused columns and slow steps", about: "What nobody reads, what was rematerialized unchanged, and where the time goes.", fields: {} },
};
const DRAWN = { impact, path, trace, diff, status, waste };

const LASTING = ["trace", "diff"]; // they are of versions, of which nothing that is materialized later changes anything
let answer = "", failed = false;

// Where there is news, what is drawn and typed stays until there is another answer.
export async function show(state, isNews = false) {
  const { title, about, fields } = FORMS[state.view];
  if (state.view === "trace" && !state.address.includes("#")) state = { ...state, address: "" }; // that of another question
  const given = Object.keys(fields).every((name) => state[name]);
  if (isNews && (!given || (LASTING.includes(state.view) && !failed))) return;
  if (!isNews) begin(state, title, about, fields);
  const body = page.querySelector(".body");
  if (!given) {
    replace(body, h("p", { class: "empty" }, "Enter ", Object.values(fields).map(([name]) => name.toLowerCase()).join(" and "), ", for example ", Object.values(fields).map(([, example], at) => [at ? " and " : "", h("code", {}, example)]), ".", state.view === "trace" ? " The tab Rows of a table leads here, too." : ""));
    return;
  }
  try {
    const values = Object.fromEntries(Object.keys(fields).map((name) => [name, state[name]]));
    if (state.as_of && ["impact", "path", "status"].includes(state.view)) values.as_of = state.as_of;
    const found = await ask(state.view, values), text = JSON.stringify(found);
    if (text !== answer) replace(body, DRAWN[state.view](found, state));
    [answer, failed] = [text, false];
  } catch (error) {
    if (error.name === "AbortError") return;
    replace(body, problem(error));
    [answer, failed] = ["", true];
  }
}

function begin(state, title, about, fields) {
  const had = document.activeElement?.closest("#answer form *")?.id;
  replace(page, h("h1", {}, title), h("p", { class: "muted" }, about), form(state, fields), h("div", { class: "body" }, reading()));
  if (had) document.getElementById(had)?.focus();
  [answer, failed] = ["", false];
}

function form(state, fields) {
  if (!Object.keys(fields).length) return null;
  const submit = (event) => { event.preventDefault(); go(Object.fromEntries(new FormData(event.target))); };
  return h("form", { class: "ask", onsubmit: submit }, Object.entries(fields).map(([name, [label, example]]) => h("label", {}, label, h("input", { id: `ask-${name}`, name, value: state[name], placeholder: example, spellcheck: "false", autocomplete: "off" }))), h("button", { id: "ask" }, "Ask"));
}

const headings = (names, numbers) => h("thead", {}, h("tr", {}, names.map((name, at) => h("th", { scope: "col", class: numbers.includes(at) ? "number" : null }, name))));
const open = (kind, address) => h("button", { type: "button", class: "plain", onclick: () => lead(kind, address) }, address);

function impact(found, state) {
  if (!found.total) return h("p", { class: "empty" }, `Nothing is downstream of ${found.address}: a change of it reaches nobody.`);
  const query = new URLSearchParams({ address: found.address, ...(state.as_of ? { as_of: state.as_of } : {}) });
  const groups = new Map();
  for (const item of found.items) {
    if (!groups.has(item.severity)) groups.set(item.severity, []);
    groups.get(item.severity).push(item);
  }
  return [
    h("p", { class: "lead" }, h("b", {}, `${counted(found.total, "thing")} downstream`), `: ${Object.entries(found.kinds).map(([kind, count]) => counted(count, kind)).join(", ")}. `,
      h("a", { href: `/api/impact.csv?${query}`, download: "impact.csv" }, "CSV"), " ", h("button", { type: "button", class: "plain", onclick: () => draw(found.address) }, "Show in the graph")),
    [...groups].map(([severity, items]) => [h("h2", {}, h("span", { class: `severity ${severity.replace(" ", "-")}` }, severity), ` ${items.length}`),
      h("table", { class: "things" }, headings(["Kind", "Address", "Edges away", "Why"], [2]),
        h("tbody", {}, items.slice(0, 500).map((item) => h("tr", {}, h("td", {}, item.kind), h("td", {}, open(item.kind, item.address)), h("td", { class: "number" }, item.depth), h("td", { class: "muted" }, item.why))))),
      items.length > 500 ? h("p", { class: "muted" }, `and ${(items.length - 500).toLocaleString("en")} more in the CSV`) : null]),
  ];
}

function draw(address) {
  const column = /^[^[@]+\.[^[@]+$/.test(address) ? address : "";
  go({ view: "graph", focus: address, column, until: "", show: column ? [] : [`0+${address}+`], only: column ? "1" : "", open: [], rows: [], find: [], tab: "" });
}

function between(column, until) {
  go({ view: "graph", focus: column, column, until, only: "1", show: [], open: [], rows: [], find: [], tab: "" });
}

function path(found, state) {
  if (!found.total) return h("p", { class: "empty" }, "No path leads from the one to the other. Try them the other way round, or ask for the impact.");
  return [h("p", { class: "lead" }, h("b", {}, `${found.total.toLocaleString("en")} ${found.total === 1 ? "path" : "paths"}`), found.shown < found.total ? `, of which ${found.shown} are shown` : "", " ", h("button", { type: "button", class: "plain", onclick: () => between(state.start, state.end) }, "Show in the graph")),
    h("ol", { class: "ways" }, found.items.map((way) => h("li", {}, way.map((address, at) => [at ? h("span", { class: "arrow" }, " → ") : null, open(address.includes(".") ? "column" : "dataset", address)]))))];
}

function trace(found) {
  return [
    h("p", { class: "lead" }, h("b", {}, found.address)),
    h("div", { class: "split" },
      h("div", {}, h("h2", {}, "Values"), h("ul", { class: "values" }, found.values.map(value))),
      h("div", {},
        found.models.map((model) => [h("h2", {}, "Model"), h("dl", {}, [["Version", open("version", model.address)], ["Estimator", model.name], ["Promoted by", model.served_by], ["Fitted on", ranges(model.training)], ["Validated on", ranges(model.validation)], ["File", `SHA-256 ${model.sha256.slice(0, 16)}…, verified`]].filter(([, text]) => text).map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]))]),
        h("h2", {}, "Versions that were read, digests verified"),
        h("ul", { class: "plain" }, found.versions.map((item) => h("li", {}, open("version", item.address), " ", h("code", {}, item.digest.slice(0, 8))))),
        h("h2", {}, "Source files"),
        h("ul", { class: "plain" }, [...new Map(found.sources.flatMap((source) => source.files).map((file) => [file.sha256, file])).values()].map((file) => h("li", {}, file.name, " ", h("code", {}, file.sha256.slice(0, 16)), " ", h("span", { class: `state ${file.state === "as recorded" ? "fresh" : "stale"}` }, file.state))))))];
}

function ranges(addresses) {
  return addresses.length < 3 ? addresses.join(", ") : `${addresses[0]} to ${addresses.at(-1)}, ${addresses.length} versions`;
}

function value(item, depth = 0) {
  const name = item.address.slice(0, item.address.indexOf("#") < 0 ? undefined : item.address.indexOf("#"));
  const parts = [...item.computed_from.map((below) => value(below, depth + 1)), ...item.rows.map(raw)];
  const head = [h("span", { class: "name" }, name), " = ", h("b", {}, item.value === null ? "missing" : number(item.value)), item.model ? h("span", { class: "muted" }, ` predicted by ${item.model}`) : null, item.repeats === false ? h("span", { class: "state stale" }, "the current code computes another value") : null];
  if (!parts.length) return h("li", {}, head);
  return h("li", {}, h("details", { open: depth < 1 || parts.length < 3 }, h("summary", {}, head), h("ul", {}, parts)));
}

function raw(rows) {
  const keys = rows.keys.length > 1 ? `${rows.keys[0]} to ${rows.keys.at(-1)}, ${counted(rows.keys.length, "row")}` : rows.keys[0] ?? "no row";
  const values = rows.values.slice(0, 8).map((item) => (item === null ? "missing" : number(item))).join(", ");
  return h("li", { class: "raw" }, h("span", { class: "name" }, `${rows.asset}.${rows.column}`), ` ${keys}: `, h("b", {}, values + (rows.values.length > 8 ? ", …" : "")), rows.absent.length ? h("span", { class: "muted" }, ` ${counted(rows.absent.length, "absent row")}`) : null);
}

function diff(found) {
  const { a, b } = found;
  const result = [changes("Metrics", found.metrics), changes("Checks", found.checks), changes("Settings", found.config), changes("Parameters", found.params), changes("Environment (it may contribute)", found.environment)].filter(Boolean);
  const grouped = causes(found.causes), idle = found.inputs.filter((item) => item.part === "none");
  return [
    h("p", { class: "lead" }, h("b", {}, found.equal ? "Equal content" : "Different content"), `, ${counted(found.causes.length, "cause")}`),
    h("div", { class: "sides" }, [a, b].map((version, at) => h("div", { class: "card" }, h("h2", {}, h("span", { class: "side" }, "AB"[at]), " ", open("version", `${version.asset}${version.partition ? `[${version.partition}]` : ""}@${version.version}`)), h("p", { class: "muted" }, "digest ", h("code", {}, version.digest))))),
    h("div", { class: "split" },
      h("div", {}, h("h2", {}, "Causes"), grouped.length ? h("ul", { class: "causes" }, grouped) : h("p", { class: "muted" }, "Nothing that is recorded differs."),
        idle.length ? [h("h2", {}, "Differ and did not contribute"), h("ul", { class: "plain" }, idle.map((item) => h("li", {}, address(item))))] : null),
      h("div", {}, result.length ? result : h("p", { class: "muted" }, "Metrics, checks and settings are equal."))),
  ];
}

const address = (item) => `${item.asset}${item.partition ? `[${item.partition}]` : ""}`;
// For what each side read an input: a month that one model was validated on is one that a later model is fitted on.
function roles({ change }) {
  const [a, b] = change?.roles ?? ["", ""];
  if (a === b) return "";
  if (!change.a || !change.b) return `, read for ${a || b}`;
  return `, read ${a ? `for ${a}` : "otherwise"} in A, ${b ? `for ${b}` : "otherwise"} in B`;
}

const effect = (item) => `; contributed to ${item.part === "metrics" ? "the metrics of " : ""}${item.of.join(", ")}`;

const only = (item) => (item.kind !== "input" || !item.change ? "" : !item.change.a ? "B" : !item.change.b ? "A" : "");

// Inputs of one asset that only one side has, and read for the same, are told together: a later model is fitted on more months.
function causes(items) {
  const groups = new Map();
  for (const [at, item] of items.entries()) {
    const key = only(item) ? `${only(item)} ${item.change.asset}${roles(item)} ${item.part}` : at;
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups.values()].map((group) => (only(group[0]) ? alone(group) : cause(group[0])));
}

function alone(group) {
  const names = group.length < 3 ? group.map((item) => item.what).join(", ") : `${group[0].what} to ${group.at(-1).what}, ${group.length} versions,`;
  return h("li", {}, h("span", { class: "severity computed" }, "input"), ` ${names} only in ${only(group[0])}`, h("span", { class: "muted" }, roles(group[0]), effect(group[0])));
}

function cause(item) {
  const change = item.change ?? {};
  const is_same = item.kind === "input" && change.a && change.a.version === change.b?.version;
  const told = is_same ? `@${change.a.version}` : "a" in change && typeof change.a !== "object" ? `: ${shown(change.a)} → ${shown(change.b)}` : change.change ? ` ${change.change}` : change.a || change.b ? `: @${change.a?.version?.toString().slice(0, 8) ?? "none"} → @${change.b?.version?.toString().slice(0, 8) ?? "none"}` : "";
  return h("li", {}, h("span", { class: "severity computed" }, item.kind === "config" ? "setting" : item.kind), ` ${item.what}${told}`, h("span", { class: "muted" }, roles(item), effect(item)), change.text ? h("pre", { tabindex: 0 }, change.text) : null);
}

const shown = (text) => (text === null || text === undefined ? "none" : typeof text === "number" ? number(text) : typeof text === "object" ? JSON.stringify(text) : String(text));

function changes(title, items) {
  if (!items?.length) return null;
  return [h("h2", {}, title), h("table", {}, headings(["Name", "A", "B"], [1, 2]), h("tbody", {}, items.map((item) => h("tr", {}, h("td", {}, item.name), h("td", { class: "number" }, shown(item.a)), h("td", { class: "number" }, shown(item.b))))))];
}

function status(found) {
  const assets = Map.groupBy ? Map.groupBy(found, (item) => item.asset) : found.reduce((known, item) => known.set(item.asset, [...(known.get(item.asset) ?? []), item]), new Map());
  return [...assets].map(([asset, items]) => {
    const late = items.filter((item) => !["fresh", "skipped", "materialized"].includes(item.state));
    return [h("h2", {}, open("dataset", asset)), h("div", { class: "tiles" }, items.map((item) => h("span", { class: `tile ${item.state}`, title: `${item.address}: ${item.state}${item.reasons.length ? `, ${item.reasons[0]}` : ""}` }, item.partition ?? "all"))),
      late.length ? h("ul", { class: "reasons" }, late.slice(0, 5).map(reason), late.length > 5 ? h("li", { class: "muted" }, `and ${late.length - 5} more`) : null) : null];
  });
}

function waste(found) {
  const named = (title, names) => (names.length ? [h("h2", {}, title), h("ul", { class: "plain" }, names.map((name) => h("li", {}, open(name.includes(".") ? "column" : "dataset", name))))] : null);
  const longest = Math.max(...found.spent.map((item) => item.seconds), 1e-9);
  return [
    h("h2", {}, "Where the time goes"),
    h("table", {}, headings(["Asset", "Materialized", "Seconds", "Unchanged", "Seconds of unchanged"], [1, 2, 3, 4]),
      h("tbody", {}, found.spent.map((item) => h("tr", {}, h("td", {}, open("dataset", item.asset)), h("td", { class: "number" }, item.times), h("td", { class: "number" }, h("meter", { min: 0, max: longest, value: item.seconds, "aria-label": `seconds of ${item.asset}` }), h("span", { class: "amount" }, item.seconds.toFixed(1))), h("td", { class: "number" }, item.unchanged), h("td", { class: "number" }, item.unchanged_seconds.toFixed(1)))))),
    named("Columns that nothing is computed from", found.unread),
    named("Datasets that nothing is computed from", found.without_readers),
    Object.entries(found.unused).map(([asset, names]) => named(`Columns that ${asset} does not read`, names)),
    Object.entries(found.unused_by_model).map(([asset, names]) => named(`Columns that the newest ${asset} was fitted on and does not use`, names)),
  ];
}

export const hasForm = (view) => Object.hasOwn(FORMS, view);
