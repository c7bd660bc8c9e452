// What is seen is a state, the state is the address, and whoever changes it goes through `go`: so the back button works,
// and every view can be linked to.

const LISTS = ["show", "open", "rows", "find"];
const TEXTS = ["view", "focus", "column", "until", "only", "as_of", "tab", "partition", "address", "start", "end", "a", "b", "from", "to", "select"];

let listener = () => {};

export function read() {
  const query = new URLSearchParams(location.search);
  const state = {};
  for (const name of TEXTS) state[name] = query.get(name) ?? "";
  for (const name of LISTS) state[name] = query.getAll(name);
  state.view ||= "graph";
  if (state.select) {
    const selector = state.select.replace(/^(\d*) /, "$1+").replace(/ (\d*)$/, "+$1"); // a bare + in an address is a blank
    state.show = [selector, ...state.show];
    state.focus ||= selector.replace(/^\d*\+/, "").replace(/\+\d*$/, "");
  }
  return state;
}

export function address(state) {
  const query = new URLSearchParams();
  for (const name of TEXTS) if (state[name] && !(name === "view" && state[name] === "graph") && name !== "select") query.append(name, state[name]);
  for (const name of LISTS) for (const value of state[name] ?? []) query.append(name, value);
  const text = query.toString();
  return text ? `/?${text}` : "/";
}

// `anchor` names the box that must stay where it is on the screen.
export function go(changes, { anchor = "", replace = false } = {}) {
  const next = { ...read(), select: "", ...changes };
  history[replace ? "replaceState" : "pushState"]({}, "", address(next));
  listener(next, anchor);
}

export function onchange(callback) {
  listener = callback;
  addEventListener("popstate", () => callback(read(), ""));
}
