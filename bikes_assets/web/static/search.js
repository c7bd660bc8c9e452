// Search as you type: a combobox whose list is what the server finds.

import { ask } from "./api.js";
import { h, replace } from "./dom.js";
import { land } from "./graph.js";
import { go } from "./state.js";

const input = document.getElementById("search");
const list = document.getElementById("matches");
let chosen = -1;
let later = 0;

// Where a match leads: a column is opened in its box and followed.
export function lead(kind, address) {
  land();
  if (kind === "column") {
    go({ view: "graph", focus: address, column: address, until: "", only: "", show: [], open: [], rows: [], find: [], tab: "overview", from: "", to: "" });
  } else {
    go({ view: "graph", focus: address, column: "", until: "", only: "", show: [], open: [], rows: [], find: [], tab: "overview", from: "", to: "" });
  }
}

function close() {
  list.hidden = true;
  chosen = -1;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

function choose(index) {
  const items = [...list.querySelectorAll("[role=option]:not([aria-disabled])")];
  if (!items.length) return;
  chosen = (index + items.length) % items.length;
  items.forEach((item, at) => item.setAttribute("aria-selected", at === chosen));
  input.setAttribute("aria-activedescendant", items[chosen].id);
  items[chosen].scrollIntoView({ block: "nearest" });
}

async function search() {
  const words = input.value.trim();
  if (!words) return close();
  try {
    const { items, total } = await ask("search", { q: words });
    const more = total === null ? h("li", { class: "none", role: "option", "aria-disabled": true }, `More than ${items.length} match: another word narrows them down.`) : null;
    replace(list, items.length ? [items.map(option), more] : h("li", { class: "none", role: "option", "aria-disabled": true }, `Nothing has all of these words. Try the beginning of a name, or a unit.`));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    if (items.length) choose(0);
  } catch (error) {
    if (error.name !== "AbortError") replace(list, h("li", { class: "none", role: "option", "aria-disabled": true }, error.message));
  }
}

function option(item, index) {
  const open = () => { close(); input.value = ""; lead(item.kind, item.address); };
  return h("li", { id: `match-${index}`, role: "option", "aria-selected": false, onpointerdown: (event) => { event.preventDefault(); open(); } },
    h("span", { class: `kind ${item.of}` }, item.kind === "dataset" ? item.of : item.kind), h("b", {}, item.address), item.text && item.text !== item.address ? h("span", { class: "text" }, item.text) : null);
}

input.addEventListener("input", () => { clearTimeout(later); later = setTimeout(search, 90); });
input.addEventListener("blur", () => setTimeout(close, 100));
input.addEventListener("focus", () => { if (input.value.trim()) search(); });
input.addEventListener("keydown", (event) => {
  const acts = {
    ArrowDown: () => choose(chosen + 1), ArrowUp: () => choose(chosen - 1), Escape: () => { close(); input.blur(); },
    Enter: () => list.querySelector("[aria-selected=true]")?.dispatchEvent(new PointerEvent("pointerdown")),
  };
  if (!acts[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  acts[event.key]();
});

export const focusSearch = () => { input.focus(); input.select(); };
