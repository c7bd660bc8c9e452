// Questions to the server. A newer question of a kind ends the older one, and slow ones show that they are worked on.

const running = new Map();
let waiting = 0;

class Refused extends Error {}

export async function ask(name, parameters = {}, { kind = name, body = null, quiet = false } = {}) {
  running.get(kind)?.abort();
  const control = new AbortController();
  running.set(kind, control);
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const item of Array.isArray(value) ? value : [value]) if (item) query.append(key, item);
  }
  const shown = setTimeout(() => quiet || progress(1), 250);
  const began = { shown: false };
  const progress = (step) => {
    began.shown = step > 0;
    waiting += step;
    document.getElementById("progress").hidden = waiting === 0;
  };
  try {
    const options = { signal: control.signal, headers: { Accept: "application/json" } };
    if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    let answer;
    try {
      answer = await fetch(`/api/${name}?${query}`, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer. Is bikes ui, or bikes explore, still running?");
    }
    const content = answer.headers.get("content-type")?.includes("json") ? await answer.json() : { error: await answer.text() };
    if (!answer.ok) throw new Refused(content.error || `The server answered ${answer.status}.`);
    return content;
  } finally {
    clearTimeout(shown);
    if (began.shown) progress(-1);
    if (running.get(kind) === control) running.delete(kind);
  }
}
