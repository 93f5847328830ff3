"use strict";

// A tab of the labelling page. The server decides which pictures it shows; an answer is confirmed once it is on the disk,
// and only then does the next picture show.

const KEYS = [..."123456789abcdefghijklmnopqrstuvwxyz"];
const SMALL = 64; // pixels of the longer side, up to which a picture is enlarged without smoothing
const tab = crypto.getRandomValues(new Uint32Array(4)).join("-");
const { token, start, folder } = document.body.dataset;
const $ = (id) => document.getElementById(id);

const state = {
  view: "one",
  pictures: [], // the first is shown, the others are loaded
  group: { label: "", sizes: {}, pictures: [] },
  left: new Set(), // files that are taken out of the group
  counts: null,
  training: null,
  order: 0,
  skipped: false, // whether the skipped pictures are shown again
  busy: false,
  shown: "", // the file of the picture that can be seen; no answer is taken before the first picture is seen
  retry: null,
  keys: [], // of the classes
  none: "0", // the key for none of them
  isBackground: false, // whether what is done now was not asked for by the user
  waiting: null, // an answer that was given meanwhile
};

// What this tab has answered in this folder, for undo; it outlives a reload of the page and a new start of the server.
const history = {
  key: `answers-${folder}`,
  read() {
    try { return JSON.parse(sessionStorage.getItem(this.key)) || []; } catch { return []; }
  },
  write(entries) {
    try { sessionStorage.setItem(this.key, JSON.stringify(entries.slice(-500))); } catch { /* full or forbidden */ }
  },
  push(entry) { this.write([...this.read(), entry]); },
  pop() {
    const entries = this.read();
    const last = entries.pop();
    this.write(entries);
    return last;
  },
};

class Refused extends Error {}

async function ask(action, body, keepalive = false) {
  const answer = await fetch(`do/${action}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-SSGAN-Token": token },
    body: JSON.stringify({ tab, ...body }),
    keepalive,
  });
  const kind = answer.headers.get("Content-Type") || "";
  const content = kind.includes("json") ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Refused(content.error);
  return content;
}

// Keep what the user asks for while pictures are fetched in the background; it is done after them.
function later(work) {
  if (state.isBackground) state.waiting = work;
}

// Do one thing at a time; where it fails, say why, and offer to try again. An answer that is given while pictures are fetched in
// the background is taken after them, for the picture that shows stays.
async function attempt(work, isBackground = false) {
  if (state.busy) {
    if (!isBackground) later(() => attempt(work));
    return;
  }
  state.busy = true;
  state.isBackground = isBackground;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
    $("banner").hidden = true;
    state.retry = null;
  } catch (error) {
    const reason = error instanceof Refused
      ? error.message
      : "The server does not answer. The last answer may not be saved: try again, or start `ssgan label` again and open its new link.";
    $("banner-text").textContent = reason;
    $("banner").hidden = false;
    state.retry = error.retry || work;
  } finally {
    state.busy = false;
    document.body.removeAttribute("aria-busy");
    for (const one of document.querySelectorAll(".pending")) one.classList.remove("pending");
    const waiting = state.waiting;
    state.waiting = null;
    if (waiting) waiting();
  }
}

const say = (text) => { $("saved").textContent = text; };
const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const percent = (p) => `${p >= 0.995 && p < 1 ? ">99" : Math.round(100 * p)} %`;
const address = (picture, side) => `picture/${start}/${picture.place}/${side}`;
const progressWords = () => `${state.counts.labeled.toLocaleString("en")} of ${state.counts.total.toLocaleString("en")}`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// The numbers of the page

function take(content) {
  if (!content.counts) return;
  const before = state.counts;
  state.counts = content.counts;
  state.training = content.training;
  if (content.order !== state.order) {
    state.order = content.order;
    state.pictures = state.pictures.slice(0, 1); // the others come by the new order
  }
  $("count").textContent = `${progressWords()} labelled`;
  $("bar").max = Math.max(1, state.counts.total);
  $("bar").value = state.counts.labeled + state.counts.none;
  if (!before || JSON.stringify(before.classes) !== JSON.stringify(state.counts.classes)) drawClasses();
  drawTraining();
}

// A class whose name is a key has that key; the others have the keys that are left, in order.
function keysOf(names) {
  const isKey = (name) => name === "0" || KEYS.includes(name.toLowerCase());
  const taken = new Map();
  for (const name of names) if (isKey(name) && !taken.has(name.toLowerCase())) taken.set(name.toLowerCase(), name);
  const free = KEYS.filter((key) => !taken.has(key));
  const keys = names.map((name) => (taken.get(name.toLowerCase()) === name ? name.toLowerCase() : free.shift() || ""));
  return { keys, none: taken.has("0") ? "-" : "0" };
}

function drawClasses() {
  const picture = state.pictures[0];
  const { keys, none } = keysOf(state.counts.classes.map(({ name }) => name));
  state.keys = keys;
  for (const id of ["none-key", "none-key-help"]) $(id).textContent = none;
  $("none").setAttribute("aria-keyshortcuts", none);
  state.none = none;
  const focused = document.activeElement && document.activeElement.dataset.name;
  $("classes").replaceChildren(...state.counts.classes.map(({ name, count }, i) => {
    const key = keys[i];
    const button = element("button", { type: "button", className: "class" });
    if (key) {
      button.append(element("kbd", { textContent: key }));
      button.setAttribute("aria-keyshortcuts", key);
    }
    button.append(element("span", { className: "name", textContent: name }));
    button.append(element("span", { className: "number", textContent: count.toLocaleString("en") }));
    const isGuess = picture && picture.guess === name;
    const isGiven = picture && picture.given === name;
    button.classList.toggle("guess", Boolean(isGuess));
    button.classList.toggle("given", Boolean(isGiven));
    const words = `${name}, ${count} labelled${isGuess ? ", the model says this" : ""}${isGiven ? ", its label now" : ""}`;
    button.setAttribute("aria-label", words);
    button.dataset.name = name;
    button.addEventListener("click", () => answer("label", name));
    return button;
  }));
  $("classes").classList.toggle("many", state.counts.classes.length > 12);
  $("known").replaceChildren(...state.counts.classes.map(({ name }) => element("option", { value: name })));
  if (focused) [...$("classes").children].find((one) => one.dataset.name === focused)?.focus();
}

function drawTraining() {
  const { phase, fraction, error, note, measured, every, missing, waiting, trainings } = state.training;
  const names = { train: "Training", predict: "Predicting every picture", suggest: "Choosing the next pictures" };
  let text = "";
  if (phase) text = `${names[phase]}${fraction === null ? "" : `: ${percent(fraction)}`}. You can continue.`;
  else if (waiting) text = "A training is starting.";
  else if (every && missing) text = `The next training starts after ${plural(missing, "more label")}.`;
  else text = trainings ? "No training is running." : "No training has run yet.";
  $("training").textContent = text;
  $("training-bar").hidden = phase !== "train";
  if (fraction === null) $("training-bar").removeAttribute("value");
  else $("training-bar").value = fraction;
  if (measured) {
    const [low, high] = measured.interval;
    $("measured").textContent =
      `Error ${measured.error.toFixed(0)} % (${low.toFixed(0)} to ${high.toFixed(0)} %), from ${plural(measured.labels, "label")}.`;
  }
  $("measured-help").hidden = !measured;
  $("measured-folds").textContent = measured ? measured.folds : "";
  const sentence = error || note;
  $("training-note").hidden = !sentence;
  $("training-note").textContent = sentence;
  $("training-note").classList.toggle("bad", Boolean(error));
  $("train").disabled = Boolean(phase) || waiting;
}

// One by one

function load(image, picture, side) {
  image.classList.remove("small");
  image.src = address(picture, side);
  return image.decode().then(() => {
    image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL);
  });
}

async function fill() {
  const holding = state.pictures.map((picture) => picture.file);
  let content = await ask("next", { holding, skipped: state.skipped });
  if (state.skipped && !content.pictures.length) { // no skipped picture is left: back to those without an answer
    state.skipped = false;
    content = await ask("next", { holding: [], skipped: false });
  }
  take(content);
  state.pictures = content.pictures;
  for (const picture of state.pictures.slice(1)) new Image().src = address(picture, 1600);
}

// Fetch by a new order. The picture that shows stays, with what the new model says of it.
async function refresh() {
  const before = state.pictures[0]?.file;
  await fill();
  if (state.pictures[0]?.file !== before || !before) await show();
  else { drawCaption(state.pictures[0]); drawClasses(); }
}

async function show() {
  const picture = state.pictures[0];
  const image = $("picture");
  state.shown = "";
  drawClasses();
  $("message").hidden = Boolean(picture);
  image.hidden = !picture;
  if (!picture) {
    drawEnd();
    return;
  }
  drawCaption(picture);
  try {
    await load(image, picture, 1600);
    if (state.pictures[0]?.file === picture.file) state.shown = picture.file;
  } catch {
    await passUnreadable(picture);
  }
}

function drawCaption(picture) {
  const parts = [element("strong", { textContent: picture.file })];
  if (picture.given) parts.push(` · label now: ${picture.given}`);
  if (picture.guess && picture.probability !== null) parts.push(` · the model says ${picture.guess} (${percent(picture.probability)})`);
  else if (picture.guess) parts.push(` · suggested: ${picture.guess}`);
  if (picture.guess) {
    parts.push(element("span", { className: "with-keys" }, " · ", element("kbd", { textContent: "Enter" }), " takes it"));
  }
  if (picture.reason) parts.push(` · ${picture.reason}`);
  $("caption").replaceChildren(...parts);
  $("picture").alt = `Picture ${picture.file}`;
}

// A picture that cannot be read is named and passed over; one of a server that does not answer is not.
async function passUnreadable(picture) {
  let reason = "";
  try {
    const answer = await fetch(address(picture, 1600));
    if (answer.status !== 415) throw new Error();
    reason = await answer.text();
  } catch {
    throw Object.assign(new Refused(`The server does not send ${picture.file}.`), { retry: show });
  }
  if (state.pictures[0]?.file !== picture.file) return; // the server has passed it over meanwhile
  say(`Cannot be read, skipped: ${reason}`);
  state.pictures.shift();
  await fill();
  await show();
}

function drawEnd() {
  const { total, labeled, skipped, none, unreadable } = state.counts;
  const elsewhere = total - labeled - none - skipped - unreadable;
  const words = elsewhere > 0
    ? `${plural(elsewhere, "picture")} without an answer: another tab shows ${elsewhere === 1 ? "it" : "them"}.`
    : "Every picture has an answer.";
  const parts = [element("p", { textContent: words })];
  const others = [none && `${plural(none, "picture")} of no class`, unreadable && `${unreadable} cannot be read`].filter(Boolean);
  if (others.length) parts.push(element("p", { textContent: `${others.join(", ")}.` }));
  if (skipped && !state.skipped) {
    const again = element("button", { type: "button", textContent: `Show the ${plural(skipped, "skipped picture")} again` });
    again.addEventListener("click", () => attempt(async () => { state.skipped = true; await fill(); await show(); }));
    parts.push(again);
  }
  // Asked for again and again while nothing is left: the same parts stay, and with them the focus.
  const said = parts.map((part) => part.textContent).join("");
  if ($("message").textContent !== said) $("message").replaceChildren(...parts);
  $("caption").textContent = "";
}

function answer(action, label = "") {
  const picture = state.pictures[0];
  if (state.view !== "one" || !picture || state.shown !== picture.file) return;
  if (state.busy) return later(() => { if (state.pictures[0]?.file === picture.file) answer(action, label); });
  const button = [...$("classes").children].find((one) => one.dataset.name === label);
  if (button) button.classList.add("pending");
  const id = newId(); // by which the server recognises a repeated request
  let isSaved = false;
  attempt(async () => {
    if (!isSaved) {
      const result = await ask("answer", { id, items: [[picture.file, picture.version]], action, label });
      isSaved = true;
      if (result.saved.length) history.push({ items: result.saved, words: result.label || action });
      state.pictures = state.pictures.filter((one) => one.file !== picture.file);
      take(result);
      const words = { label: `saved as ${result.label}`, none: "saved as none of these", skip: "skipped" }[action];
      say(result.changed.length ? result.changed[0] : `${picture.file} ${words} (${progressWords()})`);
      $("new-name").value = "";
      if (state.pictures.length) show().catch(() => {}); // it is loaded already, so it shows while the next ones are asked for
    }
    state.isBackground = true; // an answer to the next picture is kept meanwhile
    await fill();
    if (!state.pictures.length || state.shown !== state.pictures[0].file) await show();
    $("stage").focus({ preventScroll: true });
  });
}

function undo() {
  if (state.busy && state.waiting) { // an answer that is not sent yet
    state.waiting = null;
    say("The last answer was not saved.");
    return;
  }
  if (state.busy) return later(undo);
  const entry = history.read().at(-1);
  if (!entry) {
    say("This tab has no answer to undo.");
    return;
  }
  const id = newId();
  attempt(async () => {
    const result = await ask("undo", { id, items: entry.items });
    history.pop(); // also an entry whose pictures are gone, so that it does not stand before the earlier ones
    take(result);
    const count = result.pictures.length;
    if (!count) say(result.changed[0]);
    else say(`Undone: ${count === 1 ? result.pictures[0].file : plural(count, "picture")}, ${entry.words} (${progressWords()})`);
    if (state.view === "group") await showGroup(state.group.label);
    else {
      state.pictures = [...result.pictures.slice(0, 1), ...state.pictures.slice(0, 2)];
      await show();
    }
  });
}

// By group

async function showGroup(label) {
  const content = await ask("group", { label });
  take(content);
  state.group = content;
  state.left = new Set();
  drawGroup();
}

function drawGroup() {
  const { label, sizes, pictures } = state.group;
  const isEmpty = !pictures.length;
  for (const id of ["group-help", "take", "grid"]) $(id).hidden = isEmpty;
  $("group-message").hidden = !isEmpty;
  $("group-question").textContent = isEmpty ? "No group" : `Are all of these ${label}?`;
  $("group-class").parentElement.hidden = isEmpty;
  $("group-class").replaceChildren(...Object.entries(sizes).map(([name, size]) =>
    element("option", { value: name, textContent: `${name} (${size.toLocaleString("en")})`, selected: name === label })));
  if (isEmpty) {
    const { phase, trainings, missing, every, run } = state.training;
    $("group-message").textContent = trainings || run
      ? "No group is left: every picture has an answer, or was taken out of its group. One by one shows the rest."
      : phase || !every
        ? "Groups are made from the predictions of a model, after the first training."
        : `Groups are made from the predictions of a model, after the first training, which needs ${plural(missing, "more label")}.`;
  }
  $("grid").replaceChildren(...pictures.map((picture, i) => {
    const image = element("img", { alt: "" });
    const cell = element("button", { type: "button", className: "cell", tabIndex: i ? -1 : 0 }, image);
    const mark = element("span", { className: "mark", ariaHidden: "true" });
    const sure = element("span", { className: "sure", textContent: picture.probability === null ? "" : percent(picture.probability) });
    sure.setAttribute("aria-hidden", "true");
    mark.setAttribute("aria-hidden", "true");
    cell.append(mark, ...(sure.textContent ? [sure] : []));
    cell.setAttribute("aria-label", `${picture.file}, ${sure.textContent || "no probability"}`);
    load(image, picture, 320).catch(() => {
      if (!state.group.pictures.includes(picture)) return; // of an earlier group
      cell.disabled = true;
      cell.title = "cannot be read";
      leave(cell, picture, true);
    });
    cell.addEventListener("click", () => leave(cell, picture, !state.left.has(picture.file)));
    leave(cell, picture, false);
    return cell;
  }));
  drawTake();
}

function leave(cell, picture, isLeft) {
  if (isLeft) state.left.add(picture.file);
  else state.left.delete(picture.file);
  cell.setAttribute("aria-pressed", String(!isLeft));
  cell.querySelector(".mark").textContent = isLeft ? "✕" : "✓";
  drawTake();
}

function drawTake() {
  const count = state.group.pictures.length - state.left.size;
  const left = state.left.size ? `, leave ${state.left.size}` : "";
  const words = count ? `Take ${count} as ${state.group.label}${left}` : `Take none, leave ${state.left.size}`;
  $("take").replaceChildren(element("kbd", { textContent: "Enter" }), ` ${words}`);
}

function takeGroup() {
  const { label, pictures } = state.group;
  if (state.view !== "group" || !pictures.length) return;
  if (state.busy) return later(takeGroup);
  const taken = pictures.filter((picture) => !state.left.has(picture.file));
  $("take").classList.add("pending");
  const id = newId();
  let isSaved = false;
  attempt(async () => {
    if (!isSaved) {
      const items = taken.map((picture) => [picture.file, picture.version]);
      const result = await ask("answer", { id, items, action: "label", label, exceptions: [...state.left] });
      isSaved = true;
      if (result.saved.length) history.push({ items: result.saved, words: label });
      take(result);
      const elsewhere = result.changed.length ? ` ${result.changed.join(" ")}` : "";
      say(`${plural(result.saved.length, "picture")} saved as ${label} (${progressWords()}).${elsewhere}`);
    }
    await showGroup(label);
    $("grid").querySelector(".cell")?.focus();
  });
}

function moveInGrid(key) {
  const cells = [...$("grid").querySelectorAll(".cell:not(:disabled)")];
  const at = cells.indexOf(document.activeElement);
  if (!cells.length) return false;
  const columns = getComputedStyle($("grid")).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  const next = at < 0 ? 0 : key === "Home" ? 0 : key === "End" ? cells.length - 1 : at + step;
  if (!cells[next]) return true;
  for (const cell of cells) cell.tabIndex = -1;
  cells[next].tabIndex = 0;
  cells[next].focus();
  return true;
}

// The page

function choose(view) {
  if (state.view === view) return;
  if (state.busy) return later(() => choose(view));
  state.view = view;
  document.querySelector("main").dataset.view = view;
  $("one").hidden = view !== "one";
  $("group").hidden = view !== "group";
  $("view-one").setAttribute("aria-pressed", String(view === "one"));
  $("view-group").setAttribute("aria-pressed", String(view === "group"));
  say("");
  attempt(async () => {
    if (view === "group") await showGroup("");
    else { await fill(); await show(); }
    // Enter and Space are for the pictures, no longer for the button that was clicked.
    (view === "group" && $("grid").querySelector(".cell") || $("stage")).focus({ preventScroll: true });
    if (view === "group" && !state.group.pictures.length) document.activeElement.blur();
  });
}

function onKey(event) {
  if (event.defaultPrevented || event.isComposing) return;
  const target = event.target;
  const isField = target.matches("input:not([type=checkbox]), select, textarea");
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey && !isField) {
    event.preventDefault();
    undo();
    return;
  }
  if (event.key === "Escape" && target === $("new-name")) {
    $("new-name").value = "";
    $("stage").focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isField) return;
  if (state.view === "group" && (event.key.startsWith("Arrow") || ["Home", "End"].includes(event.key))) {
    if (moveInGrid(event.key)) event.preventDefault();
    return;
  }
  const isButton = target.closest("button, summary, a");
  if (event.key === "Enter" && $("keys").checked && (!isButton || target.closest(".cell"))) {
    event.preventDefault();
    if (event.repeat) return;
    if (state.view === "group") takeGroup();
    else if (state.pictures[0]?.guess) answer("label", state.pictures[0].guess);
    return;
  }
  if (!$("keys").checked || event.repeat) return;
  if (event.key === "Backspace") { event.preventDefault(); undo(); return; }
  if (state.view !== "one") return;
  const place = event.key === "" ? -1 : state.keys.indexOf(event.key.toLowerCase());
  if (event.key === " " && !isButton && target.type !== "checkbox") { event.preventDefault(); answer("skip"); }
  else if (event.key === state.none) answer("none");
  else if (event.key === "+") { event.preventDefault(); $("new-name").focus(); }
  else if (place >= 0) {
    event.preventDefault();
    answer("label", state.counts.classes[place].name);
  }
}

async function poll() {
  try {
    if (!state.busy) {
      const before = state.order;
      take(await ask("status", {}));
      if (state.order !== before && state.view === "group" && !state.group.pictures.length) await showGroup("");
      else if (state.view === "one" && (state.order !== before || !state.pictures.length)) await attempt(refresh, true);
    }
  } catch { /* an answer will say it */ }
  setTimeout(poll, state.training && (state.training.phase || state.training.waiting) ? 1500 : 8000);
}

document.addEventListener("keydown", onKey);
$("none").addEventListener("click", () => answer("none"));
$("skip").addEventListener("click", () => answer("skip"));
$("undo").addEventListener("click", undo);
$("group-undo").addEventListener("click", undo);
$("take").addEventListener("click", takeGroup);
$("view-one").addEventListener("click", () => choose("one"));
$("view-group").addEventListener("click", () => choose("group"));
$("group-class").addEventListener("change", (event) => attempt(() => showGroup(event.target.value)));
$("train").addEventListener("click", () => attempt(async () => take(await ask("train", {}))));
$("retry").addEventListener("click", () => { if (state.retry) attempt(state.retry); });
$("new-class").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("new-name").value.trim()) answer("label", $("new-name").value);
});
addEventListener("pagehide", () => { ask("release", {}, true).catch(() => {}); });
addEventListener("pageshow", (event) => { if (event.persisted) attempt(async () => { await fill(); await show(); }); });

attempt(async () => { await fill(); await show(); $("stage").focus({ preventScroll: true }); }).then(() => setTimeout(poll, 1500));
