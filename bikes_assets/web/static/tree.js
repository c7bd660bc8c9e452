// The same graph as a tree, for keyboards and screen readers: what is upstream and downstream of the focus.

import { h, replace } from "./dom.js";
import { expand, focusBox, kept } from "./graph.js";
import { go } from "./state.js";

const root = document.getElementById("tree");
let closed = new Set();

export function show(picture) {
  const had = document.activeElement?.closest("#tree") ? document.activeElement.dataset.key : "";
  const beside = { upstream: new Map(), downstream: new Map() };
  for (const edge of picture.edges) {
    for (const [side, here, there] of [["upstream", edge.target, edge.source], ["downstream", edge.source, edge.target]]) {
      if (!beside[side].has(here)) beside[side].set(here, new Set());
      beside[side].get(here).add(there);
    }
  }
  const boxes = new Map(picture.boxes.map((box) => [box.name, box]));
  const focus = boxes.get(picture.focus);
  replace(root, item(focus, "", 1, null),
    ["upstream", "downstream"].map((side) => branch(side, focus, boxes, beside[side])));
  const all = items();
  (all.find((node) => node.dataset.key === had) ?? all[0]).tabIndex = 0;
  if (had) all.find((node) => node.dataset.key === had)?.focus();
}

function branch(side, focus, boxes, beside) {
  const seen = new Set([focus.name]);
  const names = [...(beside.get(focus.name) ?? [])].sort();
  const title = `${side === "upstream" ? "Upstream" : "Downstream"}: ${focus[side].drawn} of ${focus[side].direct} drawn`;
  return [h("div", { class: "side", role: "treeitem", tabindex: -1, "aria-level": 1, "aria-expanded": true, "data-key": side, "data-expand": focus[side].drawn < focus[side].direct ? `${side} ${focus.name}` : null }, title),
    names.map((name) => below(side, boxes.get(name), 2, boxes, beside, seen, side))];
}

function below(side, box, level, boxes, beside, seen, path) {
  if (seen.has(box.name)) return [];
  seen.add(box.name);
  const key = `${path}/${box.name}`;
  const names = [...(beside.get(box.name) ?? [])].filter((name) => !seen.has(name)).sort();
  const more = box[side].drawn < box[side].direct;
  const open = names.length ? !closed.has(key) : more ? false : null;
  return [item(box, key, level, open, more ? `${side} ${box.name}` : null),
    open ? names.map((name) => below(side, boxes.get(name), level + 1, boxes, beside, seen, key)) : []];
}

function item(box, key, level, open, more = null) {
  const act = () => go({ focus: box.name, show: kept(box.name), tab: "overview" }, { anchor: box.name });
  const node = h("div", { role: "treeitem", tabindex: -1, "aria-level": level, "aria-expanded": open === null ? null : String(open), "aria-selected": level === 1, "data-key": key || "focus", "data-name": box.name, "data-expand": more, class: box.kind, onclick: act },
    h("span", { class: "mark", "aria-hidden": true }, open === null ? "·" : open ? "▾" : "▸"), box.title, box.columns.total ? h("small", {}, ` ${box.columns.total}`) : null);
  node.style.setProperty("--level", level - 1);
  return node;
}

const items = () => [...root.querySelectorAll("[role=treeitem]")];

function move(from, to) {
  if (!to) return;
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

root.addEventListener("keydown", (event) => {
  const node = event.target.closest("[role=treeitem]");
  if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
  const all = items(), at = all.indexOf(node), level = Number(node.getAttribute("aria-level"));
  const toggle = (open) => {
    const key = node.dataset.key;
    if (node.dataset.expand && open) { const [side, ...name] = node.dataset.expand.split(" "); expand(name.join(" "), side); return true; }
    if (node.getAttribute("aria-expanded") !== String(!open) || !node.dataset.name) return false;
    if (open) closed.delete(key); else closed.add(key);
    go({}, { replace: true });
    return true;
  };
  const acts = {
    ArrowDown: () => move(node, all[at + 1]), ArrowUp: () => move(node, all[at - 1]), Home: () => move(node, all[0]), End: () => move(node, all.at(-1)),
    ArrowRight: () => toggle(true) || move(node, Number(all[at + 1]?.getAttribute("aria-level")) > level ? all[at + 1] : null),
    ArrowLeft: () => toggle(false) || move(node, all.slice(0, at).reverse().find((other) => Number(other.getAttribute("aria-level")) < level)),
    Enter: () => node.click(), " ": () => { if (node.dataset.name) focusBox(node.dataset.name); },
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
});
