// The picture: what the server has laid out, drawn as SVG, with a viewport that only its user moves.

import { ask } from "./api.js";
import { counted, h, plain, replace, s } from "./dom.js";
import { go, read } from "./state.js";

const canvas = document.getElementById("canvas");
const world = s("g", { class: "world" });
const minimap = document.getElementById("minimap");
const ICONS = { __proto__: null, int64: "#", float64: ".5", bool: "01", string: "Aa", timestamp: "◷" };
const WORDS = { source: "source", table: "table", model: "model", dataset: "dataset of another tool", job: "job of another tool" };
const GLYPHS = { source: "⤓", table: "▦", model: "◆", dataset: "◇", job: "⚙" };
const MOST_SEGMENTS = 36, MOST_BESIDE = 29, SLICE_MS = 40;
const ruler = document.createElement("canvas").getContext("2d");
const fitted = new Map();
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

let picture = null;
let camera = { x: 0, y: 0, scale: 1 };
let strips = new Map();
let totals = new Map();
let waiting = new Map();
let active = "";
let landing = false;

canvas.append(
  s("defs", {}, ["", "-lit"].map((kind) => s("marker", { id: `arrow${kind}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    s("path", { d: "M0,0.8L7,4L0,7.2z", class: `arrow${kind}` })))),
  world,
);

export function shown() {
  return picture;
}

export function show(next, { anchor = "" } = {}) {
  const before = picture;
  const held = before ? [before, next].map((found) => found.boxes.find((box) => box.name === (anchor || next.focus))) : [];
  picture = next;
  if (held[0] && held[1]) {
    camera.x += (held[0].x - held[1].x) * camera.scale;
    camera.y += (held[0].y - held[1].y) * camera.scale;
    if (!anchor && before.focus !== next.focus) reveal(next.focus);
  } else if (!before || before.focus !== next.focus) {
    begin();
  }
  draw();
  move();
  if (landing) focusBox(next.focus);
  landing = false;
  count();
}

// Whoever is led to a picture by a search or a list goes on in it: the keys then work on what it is about.
export function land() {
  landing = true;
}

// Where each box is, for the next picture to keep their order.
export function prior() {
  return picture ? Object.fromEntries(picture.boxes.map((box) => [box.name, box.y])) : null;
}

export function setStrips(statuses) {
  strips = new Map();
  for (const item of statuses) {
    if (!strips.has(item.asset)) strips.set(item.asset, []);
    strips.get(item.asset).push(item);
  }
  const { width, header } = picture?.sizes ?? {};
  for (const box of picture?.boxes ?? []) {
    const head = waiting.has(box.name) ? null : group(box.name).querySelector(".head"), made = strip(box, width, header);
    head?.querySelector(".strip")?.remove();
    if (head && made) head.append(made);
  }
}

export function forget() {
  totals = new Map();
}

async function count() {
  const names = picture.boxes.filter((box) => !totals.has(box.name)).map((box) => box.name).slice(0, 50);
  if (!names.length) return;
  try {
    const found = await ask("counts", { address: names, as_of: read().as_of });
    for (const [name, counts] of Object.entries(found)) totals.set(name, counts);
  } catch {
    return; // the picture is complete without them
  }
  for (const name of names) retell(name);
  count();
}

// What was counted is told in the labels and tooltips of a box; nothing is drawn for it.
function retell(name) {
  const box = picture.boxes.find((item) => item.name === name);
  if (!box || waiting.has(name)) return; // it is not drawn, or will be with what was counted
  const drawn = group(name);
  drawn.querySelector(".area").setAttribute("aria-label", label(box));
  for (const side of ["upstream", "downstream"]) {
    const made = drawn.querySelector(`.expander.${side}`);
    if (!made) continue;
    made.querySelector("rect").setAttribute("aria-label", expanding(box, side));
    made.querySelector("title").textContent = told(box, side);
  }
}

function short(text, most) {
  const letters = [...text];
  return letters.length <= most ? text : `${letters.slice(0, most - 9).join("")}…${letters.slice(-8).join("")}`;
}

// As much of a text as fits into some pixels, its begin and its end.
function fitting(text, wide, font) {
  const key = `${font} ${wide} ${text}`;
  if (!fitted.has(key)) {
    ruler.font = `${font} system-ui, "Liberation Sans", sans-serif`;
    let most = Math.min([...text].length, 60), found = short(plain(text), most);
    while (most > 10 && ruler.measureText(found).width > wide) found = short(plain(text), (most -= 1));
    if (ruler.measureText(found).width > wide) found = `${[...found][0]}…`;
    fitted.set(key, found);
  }
  return fitted.get(key);
}

// What is in sight is drawn first, and all else in slices between which the browser answers whoever uses it.
function draw() {
  const { box: kept, column: row } = document.activeElement?.dataset ?? {};
  const around = row && document.activeElement.closest("[data-group]").dataset.group;
  const typing = document.activeElement?.dataset?.find;
  const { value: typed, selectionStart: place } = typing ? document.activeElement : {};
  const locked = Boolean(picture.column);
  if (!picture.boxes.some((box) => box.name === active)) active = picture.focus;
  const away = new Map(picture.boxes.map((box) => [box.name, fromSight(box)]));
  const lines = [...picture.edges].sort((one, other) => one.is_on_path - other.is_on_path).map((edge) => ({
    node: line(edge, locked), made: (node) => pathOf(edge, node), away: Math.min(away.get(edge.source), away.get(edge.target)),
  }));
  const boxes = picture.boxes.map((box) => ({ node: outer(box, locked), name: box.name, made: () => inner(box, locked), away: away.get(box.name) }));
  const all = [...lines, ...boxes];
  replace(world, all.map((item) => item.node));
  canvas.classList.toggle("locked", locked);
  waiting = new Map(all.sort((one, other) => one.away - other.away).map((item) => [item.name ?? item.node, item]));
  for (const name of [kept, typing, around]) fill(name);
  slice(waiting);
  if (kept) element(kept)?.focus({ preventScroll: true });
  if (row) (world.querySelector(`[data-column="${CSS.escape(row)}"]`) ?? element(around))?.focus({ preventScroll: true });
  if (typing) {
    const field = world.querySelector(`[data-find="${CSS.escape(typing)}"]`);
    if (field && field.value !== typed) field.value = typed; // it was typed while the answer was on its way
    field?.focus({ preventScroll: true });
    field?.setSelectionRange(place, place);
  }
  map();
}

function slice(items) {
  const until = performance.now() + SLICE_MS;
  while (items.size && performance.now() < until) fill(items.keys().next().value);
  if (items.size && items === waiting) requestAnimationFrame(() => items === waiting && slice(items));
}

function fill(key) {
  const item = waiting.get(key);
  if (!item) return;
  waiting.delete(key);
  item.node.append(...item.made(item.node));
}

// How far the nearest point of a box is from the middle of what is in sight, in the units of the picture.
function fromSight(box) {
  const x = (canvas.clientWidth / 2 - camera.x) / camera.scale, y = (canvas.clientHeight / 2 - camera.y) / camera.scale;
  const beyond = (at, from, size) => Math.max(from - at, at - from - size, 0);
  return Math.hypot(beyond(x, box.x, picture.sizes.width), beyond(y, box.y, box.height));
}

const group = (name) => world.querySelector(`[data-group="${CSS.escape(name)}"]`);

function element(name) {
  fill(name);
  return group(name)?.querySelector("[data-box]");
}

function line(edge, locked) {
  const address = (name, column) => (column ? addressOf(name, column) : name);
  const from = address(edge.source, edge.source_column), to = address(edge.target, edge.target_column);
  const lit = locked && edge.is_on_path;
  const state = read();
  const chosen = state.from === from && state.to === to;
  const open = () => go({ from, to, tab: "edge" });
  return s("g", { class: `line${lit ? " lit" : ""}${chosen ? " chosen" : ""}`, "data-from": from, "data-to": to, onclick: open });
}

function pathOf(edge, node) {
  const { from, to } = node.dataset, arrow = node.matches(".lit, .chosen") ? "arrow-lit" : "arrow";
  return [
    s("path", { class: "edge", d: edge.path, "marker-end": `url(#${arrow})` }),
    s("path", { class: "hit", d: edge.path }, s("title", {}, `${from} → ${to}`)),
  ];
}

function addressOf(name, column) {
  const box = picture.boxes.find((item) => item.name === name);
  return box?.rows?.find((row) => row.name === column)?.address ?? `${name}.${column}`;
}

function outer(box, locked) {
  return s("g", {
    class: `box ${box.kind}${box.name === picture.focus ? " focused" : ""}${locked && box.is_on_path ? " lit" : ""}`,
    transform: `translate(${box.x},${box.y})`, role: "group", "aria-label": box.title, "data-group": box.name,
    onclick: () => go({ focus: box.name, show: kept(box.name), tab: "overview", from: "", to: "" }, { anchor: box.name }),
  });
}

function inner(box, locked) {
  const { width, header } = picture.sizes;
  const about = box.aliases.length ? [] : [WORDS[box.kind]];
  if (box.columns.total) about.push(locked && box.columns.on_path ? `${box.columns.on_path} of ${counted(box.columns.total, "column")}` : counted(box.columns.total, "column"));
  if (box.models) about.push(counted(box.models, "version"));
  const head = s("g", { class: "head" },
    s("rect", {
      class: "area", width, height: header, rx: 9, "data-box": box.name, role: "button", tabindex: box.name === active ? 0 : -1, "aria-label": label(box), "aria-pressed": box.name === picture.focus, onfocus: () => { active = box.name; },
    }, s("title", {}, box.title)),
    s("text", { class: "glyph", x: 20, y: 24, "text-anchor": "middle" }, GLYPHS[box.kind]),
    s("text", { class: "title", x: 36, y: 23 }, fitting(box.title, width - 66, "600 13.5px")),
    s("text", { class: "about", x: 36, y: 40 }, fitting(about.join(" · "), width - 48 - (box.aliases.length ? 70 : 0), "11.5px")),
    badge(box),
    strip(box, width, header));
  const parts = [
    s("rect", { class: "frame", width, height: box.height, rx: 9 }),
    s("rect", { class: "stripe", x: 0, y: 9, width: 4, height: box.height - 18, rx: 2 }),
    head,
    box.columns.total ? toggle(box, width) : null,
    expander(box, "upstream", width, header),
    expander(box, "downstream", width, header),
  ];
  if (box.rows) {
    parts.push(s("path", { class: "rule", d: `M1,${header}H${width - 1}` }));
    parts.push(...box.rows.map((row, index) => column(box, row, index, width, header)), foot(box, width));
  }
  return parts.filter(Boolean);
}

function label(box) {
  const parts = [box.title, WORDS[box.kind], counted(box.columns.total, "column")];
  for (const side of ["upstream", "downstream"]) parts.push(told(box, side));
  return parts.join(", ");
}

function told(box, side) {
  const { direct, drawn } = box[side], total = totals.get(box.name)?.[side];
  return `${drawn} of ${direct} ${side} drawn${total === undefined ? "" : `, ${total.toLocaleString("en")} in all`}`;
}

const expanding = (box, side) => `${told(box, side)}: ${box[side].drawn < box[side].direct ? "show more" : "hide"}`;

function badge(box) {
  if (!box.aliases.length) return null;
  const text = `@${short(box.aliases.join(" @"), 14)}`;
  ruler.font = '11px system-ui, "Liberation Sans", sans-serif';
  const wide = ruler.measureText(text).width + 14;
  return s("g", { class: "badge", transform: `translate(${picture.sizes.width - wide - 12},28)` },
    s("rect", { width: wide, height: 17, rx: 8.5 }), s("text", { x: wide / 2, y: 12.5, "text-anchor": "middle" }, text), s("title", {}, `alias ${box.aliases.join(", ")}`));
}

function strip(box, width, header) {
  const all = strips.get(box.title);
  if (!all?.length) return null;
  const step = Math.max(1, Math.ceil(all.length / MOST_SEGMENTS)), count = Math.ceil(all.length / step);
  const inner = width - 24, wide = inner / count;
  const worst = ["failed", "missing", "stale", "pending", "skipped", "materialized", "fresh"];
  const group = s("g", { class: "strip" });
  for (let at = 0; at < count; at += 1) {
    const part = all.slice(at * step, (at + 1) * step);
    const state = worst.find((name) => part.some((item) => item.state === name)) ?? part[0].state;
    const names = part.length > 1 ? `${part[0].partition}..${part.at(-1).partition}` : part[0].partition ?? box.title;
    group.append(s("rect", { class: state, x: 14 + at * wide, y: header - 10, width: Math.max(wide - 1, 0.6), height: 5, rx: 1 }, s("title", {}, `${names}: ${state}`)));
  }
  return group;
}

function toggle(box, width) {
  const state = read();
  const open = state.open.includes(box.name) || Boolean(box.rows);
  const flip = (event) => {
    event.stopPropagation();
    const others = state.open.filter((name) => name !== box.name);
    go({ open: state.open.includes(box.name) ? others : [...others, box.name] }, { anchor: box.name });
  };
  return button({ class: "toggle", x: width - 26, y: 6, width: 20, height: 20, "aria-label": `${open ? "Close" : "Open"} the columns of ${box.title}`, "aria-expanded": open }, open ? "▾" : "▸", flip);
}

// What is pressed is the rectangle, which has a name of its own; the text over it is for eyes alone.
function button({ x, y, width, height, class: kind, title = null, ...attributes }, text, act) {
  const press = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(event); } };
  return s("g", { class: kind, transform: `translate(${x},${y})`, onclick: act },
    s("rect", { width, height, rx: height / 2, role: "button", tabindex: -1, onkeydown: press, ...attributes }, title ? s("title", {}, title) : null), s("text", { x: width / 2, y: height / 2 + 4, "text-anchor": "middle" }, text));
}

function expander(box, side, width, header) {
  const { direct, drawn } = box[side];
  if (!direct) return null;
  const text = drawn < direct ? `${compact.format(drawn)}/${compact.format(direct)}` : compact.format(direct), wide = Math.max(22, text.length * 7 + 10);
  const beside = Math.min(wide - 7, MOST_BESIDE), x = side === "upstream" ? -beside : width + beside - wide;
  const act = (event) => { event.stopPropagation(); expand(box.name, side); };
  return button({ title: told(box, side), class: `expander ${side}${drawn < direct ? " more" : ""}`, x, y: header / 2 + 8, width: wide, height: 18, "aria-label": expanding(box, side) }, text, act);
}

// Clicking once more where all are drawn hides what is beside the box there.
export function expand(name, side) {
  const box = picture.boxes.find((item) => item.name === name);
  if (!box) return;
  const state = read();
  const base = state.show.length ? state.show : [`1+${picture.focus}+1`];
  if (box[side].drawn < box[side].direct) go({ show: [...base, side === "upstream" ? `1+${name}` : `${name}+1`], only: "" }, { anchor: name });
  else go({ show: without(name, side).map((left) => `0+${left}`), only: "" }, { anchor: name });
}

// What is left without the neighbours of a box on one side, and without what only they connect with the focus or the box.
function without(name, side) {
  const [here, there] = side === "upstream" ? ["target", "source"] : ["source", "target"];
  const kept = [picture.focus, name];
  const hidden = new Set(picture.edges.filter((edge) => edge[here] === name && !kept.includes(edge[there])).map((edge) => edge[there]));
  const found = new Set(kept);
  for (const box of found) {
    for (const { source, target } of picture.edges) {
      const other = source === box ? target : target === box ? source : null;
      if (other && !hidden.has(other)) found.add(other);
    }
  }
  return [...found];
}

// What is drawn stays when another box becomes the focus.
export function kept(name) {
  const state = read();
  const base = state.show.length ? state.show : [`1+${picture.focus}+1`];
  return name === picture.focus ? base : [...new Set([...base, `0+${picture.focus}`])];
}

function column(box, row, index, width, header) {
  const chosen = read().column === row.address;
  const y = header + index * picture.sizes.row;
  const act = (event) => { event.stopPropagation(); follow(row.address, box.name); };
  const press = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); act(event); } };
  return s("g", {
    class: `column${row.is_on_path ? " lit" : ""}${chosen ? " chosen" : ""}`, transform: `translate(0,${y})`, onclick: act,
  },
    s("rect", {
      class: "back", x: 4, width: width - 8, height: picture.sizes.row, rx: 4, role: "button", tabindex: -1,
      "data-column": row.address, "aria-pressed": chosen, onkeydown: press,
      "aria-label": `column ${row.name}, ${row.type || "unknown type"}, ${row.upstream} upstream, ${row.downstream} downstream`,
    }, s("title", {}, [row.name, row.type, row.unit, row.meaning].filter(Boolean).join("\n"))),
    s("text", { class: "icon", x: 24, y: 15, "text-anchor": "middle" }, ICONS[row.type] ?? "·"),
    s("text", { class: "name", x: 40, y: 15 }, fitting(row.name, width - 108, "600 12px")),
    s("text", { class: "ends", x: width - 12, y: 15, "text-anchor": "end" }, `${row.upstream} → ${row.downstream}`));
}

// A column that is followed already is let go.
export function follow(address, anchor) {
  const state = read();
  if (state.column === address && !state.until) go({ column: "", only: "" }, { anchor });
  else go({ column: address, until: "", show: kept(picture.focus) }, { anchor });
}

function foot(box, width) {
  const state = read(), top = box.height - picture.sizes.footer;
  const shown = box.rows.length, matching = box.columns.matching;
  const more = (event) => {
    event.stopPropagation();
    const others = state.rows.filter((item) => item.slice(0, item.lastIndexOf(":")) !== box.name);
    const open = state.open.includes(box.name) ? state.open : [...state.open, box.name];
    go({ rows: [...others, `${box.name}:${shown + 10}`], open }, { anchor: box.name });
  };
  const words = state.find.find((item) => item.slice(0, item.lastIndexOf(":")) === box.name);
  const input = h("input", {
    type: "search", placeholder: "find a column", value: words ? words.slice(words.lastIndexOf(":") + 1) : "", "aria-label": `Find a column of ${box.title}`,
    "data-find": box.name, onclick: (event) => event.stopPropagation(), oninput: (event) => find(box.name, event.target.value), onkeydown: (event) => event.stopPropagation(),
  });
  const rest = Math.max(matching - shown, 0);
  return s("g", { class: "foot", transform: `translate(0,${top})`, onclick: (event) => event.stopPropagation() },
    box.columns.total > 10 || words ? s("foreignObject", { x: 10, y: 3, width: 112, height: 24 }, input) : null,
    rest ? button({ class: "rest", x: width - 102, y: 5, width: 94, height: 20, "aria-label": `Show more columns of ${box.title}` }, `${rest.toLocaleString("en")} more`, more)
      : s("text", { class: "ends", x: width - 12, y: 19, "text-anchor": "end" }, counted(matching, "column")));
}

let later = 0;
function find(name, words) {
  clearTimeout(later);
  later = setTimeout(() => {
    const state = read();
    const others = state.find.filter((item) => item.slice(0, item.lastIndexOf(":")) !== name);
    const open = state.open.includes(name) ? state.open : [...state.open, name];
    go({ find: words ? [...others, `${name}:${words.replaceAll(":", " ")}`] : others, open }, { anchor: name, replace: true });
  }, 120);
}

// The camera.

function begin() {
  const { clientWidth: wide, clientHeight: high } = canvas;
  const box = picture.boxes.find((item) => item.name === picture.focus);
  const whole = Math.min((wide - 80) / picture.width, (high - 110) / picture.height);
  if (whole >= 0.72) {
    camera.scale = Math.min(1, whole);
    camera.x = (wide - picture.width * camera.scale) / 2;
    camera.y = (high - picture.height * camera.scale) / 2 + 14;
  } else {
    const beside = new Set(picture.edges.filter((edge) => edge.source === box.name || edge.target === box.name).flatMap((edge) => [edge.source, edge.target]));
    const near = picture.boxes.filter((item) => item === box || beside.has(item.name));
    const span = Math.max(...near.map((item) => item.x)) - Math.min(...near.map((item) => item.x)) + picture.sizes.width + 80;
    camera.scale = Math.min(1, Math.max(wide < 500 ? 0.7 : 0.62, wide / span));
    camera.x = within(wide / 2 - (box.x + picture.sizes.width / 2) * camera.scale, wide, picture.width);
    camera.y = within(high / 2 - (box.y + Math.min(box.height, high) / 2) * camera.scale, high, picture.height);
  }
}

// Where the camera is so that no more than an edge beside the picture is empty; a picture that fits is in the middle.
function within(wanted, size, length) {
  const edge = 40, least = size - edge - length * camera.scale;
  return least > edge ? (least + edge) / 2 : Math.min(edge, Math.max(least, wanted));
}

export function fit() {
  const { clientWidth: wide, clientHeight: high } = canvas;
  camera.scale = Math.max(0.05, Math.min(1.2, (wide - 60) / picture.width, (high - 100) / picture.height));
  camera.x = (wide - picture.width * camera.scale) / 2;
  camera.y = (high - picture.height * camera.scale) / 2 + 14;
  move();
}

export function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const scale = Math.min(3, Math.max(0.05, camera.scale * factor));
  camera.x = x - ((x - camera.x) * scale) / camera.scale;
  camera.y = y - ((y - camera.y) * scale) / camera.scale;
  camera.scale = scale;
  move();
}

function move() {
  world.setAttribute("transform", `translate(${camera.x},${camera.y}) scale(${camera.scale})`);
  view();
}

function map() {
  const edge = 14;
  minimap.setAttribute("viewBox", `${-edge} ${-edge} ${picture.width + 2 * edge} ${picture.height + 2 * edge}`);
  replace(minimap, picture.boxes.map((box) => s("rect", { class: `spot ${box.kind}${box.name === picture.focus ? " focused" : ""}`, x: box.x, y: box.y, width: picture.sizes.width, height: box.height, rx: 12 })), s("rect", { class: "window" }));
  view();
}

function view() {
  const frame = minimap.querySelector(".window");
  if (!frame) return;
  frame.setAttribute("x", -camera.x / camera.scale);
  frame.setAttribute("y", -camera.y / camera.scale);
  frame.setAttribute("width", canvas.clientWidth / camera.scale);
  frame.setAttribute("height", canvas.clientHeight / camera.scale);
  const all = picture && (picture.width * camera.scale > canvas.clientWidth || picture.height * camera.scale > canvas.clientHeight);
  minimap.classList.toggle("needless", !all);
}

function reveal(name) {
  const box = picture?.boxes.find((item) => item.name === name);
  if (!box) return;
  const left = box.x * camera.scale + camera.x, top = box.y * camera.scale + camera.y, edge = 40;
  const wide = picture.sizes.width * camera.scale, high = Math.min(box.height * camera.scale, canvas.clientHeight - 2 * edge);
  camera.x += Math.max(edge - left, 0) - Math.max(left + wide + edge - canvas.clientWidth, 0);
  camera.y += Math.max(edge + 30 - top, 0) - Math.max(top + high + edge - canvas.clientHeight, 0);
  move();
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const frame = canvas.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - frame.left, event.clientY - frame.top);
}, { passive: false });

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest(".box, .line")) return;
  const from = { x: event.clientX - camera.x, y: event.clientY - camera.y };
  const drag = (moved) => { camera.x = moved.clientX - from.x; camera.y = moved.clientY - from.y; move(); };
  const stop = () => { canvas.classList.remove("dragged"); removeEventListener("pointermove", drag); removeEventListener("pointerup", stop); };
  canvas.classList.add("dragged");
  addEventListener("pointermove", drag);
  addEventListener("pointerup", stop);
});

minimap.addEventListener("pointerdown", (event) => {
  const to = (moved) => {
    const at = new DOMPoint(moved.clientX, moved.clientY).matrixTransform(minimap.getScreenCTM().inverse());
    camera.x = canvas.clientWidth / 2 - at.x * camera.scale;
    camera.y = canvas.clientHeight / 2 - at.y * camera.scale;
    move();
  };
  const stop = () => { removeEventListener("pointermove", to); removeEventListener("pointerup", stop); };
  to(event);
  addEventListener("pointermove", to);
  addEventListener("pointerup", stop);
});

// Keys: arrows go from box to box, down into the columns of an open one; u and d expand, o opens, e tells of its lines.

canvas.addEventListener("keydown", (event) => {
  const box = event.target.closest("[data-group]"), row = event.target.closest("[data-column]");
  if (!box || event.ctrlKey || event.metaKey || event.altKey) return;
  const name = box.dataset.group, acts = {
    ArrowLeft: () => step(name, -1, 0), ArrowRight: () => step(name, 1, 0),
    ArrowUp: () => (row ? rowStep(box, row, -1) : step(name, 0, -1)),
    ArrowDown: () => rowStep(box, row, 1) || step(name, 0, 1),
    u: () => expand(name, "upstream"), d: () => expand(name, "downstream"),
    e: () => tell(name, row?.dataset.column),
    o: () => box.querySelector(".toggle")?.dispatchEvent(new MouseEvent("click", { bubbles: true })),
    Enter: () => (row ? null : box.dispatchEvent(new MouseEvent("click", { bubbles: true }))),
    " ": () => (row ? null : box.dispatchEvent(new MouseEvent("click", { bubbles: true }))),
  };
  if (!acts[event.key] || event.target.closest("input")) return;
  event.preventDefault();
  acts[event.key]();
});

// The panel tells of the first line of a box or column, and then of the next one.
function tell(name, column) {
  const of = (edge, side) => (edge[`${side}_column`] ? addressOf(edge[side], edge[`${side}_column`]) : edge[side]);
  const lines = picture.edges.map((edge) => ({ edge, from: of(edge, "source"), to: of(edge, "target") }))
    .filter(({ edge, from, to }) => (column ? from === column || to === column : edge.source === name || edge.target === name));
  const { from, to } = read(), at = lines.findIndex((item) => item.from === from && item.to === to);
  const next = lines[(at + 1) % lines.length];
  if (next) go({ from: next.from, to: next.to, tab: "edge" });
}

function rowStep(box, row, by) {
  const rows = [...box.querySelectorAll("[data-column]")];
  const next = row ? rows[rows.indexOf(row) + by] : by > 0 ? rows[0] : null;
  if (!next && row && by < 0) focusBox(box.dataset.group);
  next?.focus({ preventScroll: true });
  return Boolean(next) || (Boolean(row) && by < 0);
}

function step(name, across, down) {
  const here = picture.boxes.find((box) => box.name === name);
  const away = (box) => (across ? (box.x - here.x) * across : (box.y - here.y) * down);
  const beside = (box) => (across ? Math.abs(box.y - here.y) : Math.abs(box.x - here.x));
  const wanted = picture.boxes.filter((box) => box !== here && away(box) > 1 && (across || beside(box) < 1));
  wanted.sort((one, other) => away(one) + 0.4 * beside(one) - away(other) - 0.4 * beside(other));
  if (wanted[0]) focusBox(wanted[0].name);
}

export function focusBox(name) {
  active = name;
  for (const node of world.querySelectorAll("[data-box]")) node.setAttribute("tabindex", node.dataset.box === name ? 0 : -1);
  element(name)?.focus({ preventScroll: true });
  reveal(name);
}

export function resized() {
  if (picture) view();
}

addEventListener("resize", resized);
