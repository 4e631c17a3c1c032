// The page for the shopper: what happens, and when. It keeps nothing beyond a session: no storage,
// no history, no cookie of its own.

import { LONGEST, isText, listenForScans } from "./scanner.js";
import { $, drawAge, drawDetail, drawRelated, drawResults, drawWords, make, wipeDetail, wipeView } from "./view.js";
import { WORDS, say } from "./words.js";

const ITEMS = 6;
const HEARTBEAT_MS = 3000;
const TOUCH_MS = 10000; // so often the server hears that the shopper is there
const PATIENCE_MS = 8000;
const SIZES = ["", "large", "larger"];

let settings = { language: "en", languages: ["en"], currency: "EUR", idle_s: 60, warning_s: 30 };
let data = null; // how old the release's data is
let reachable = true;
let ready = false; // whether the settings are the server's
let shopper = nobody();

function nobody() {
  return {
    session: null,
    answer: null,
    detail: null,
    scans: 0, // how many codes were read
    language: settings.language,
    size: 0,
    contrast: false,
    active: performance.now(),
    told: performance.now(), // when the server last heard of it
    abort: new AbortController(),
  };
}

const words = (name, values) => say(shopper.language, name, values);

// --- asking the server

class Refusal extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

async function ask(method, path, body, signal = shopper.abort.signal) {
  const options = { method, cache: "no-store", signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]) };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  let response;
  let document = null;
  try {
    response = await fetch(path, options);
    if (response.status !== 204) document = await response.json();
  } catch (error) {
    if (signal.aborted) throw new Refusal("wiped");
    setReachable(false);
    throw new Refusal("unreachable");
  }
  if (signal.aborted) throw new Refusal("wiped");
  if (response.ok) return document;
  throw new Refusal((document.type ?? "").replace("urn:c2rec:problem:", ""));
}

const post = (part, body) => ask("POST", `/api/sessions/${shopper.session}/${part}`, body);

// Do something for the shopper; what goes wrong is told in plain words.
async function attempt(action) {
  const whose = shopper;
  try {
    await action();
  } catch (error) {
    if (whose !== shopper || error.code === "wiped" || error.code === "unreachable") return;
    if (error.code === "session-ended") wipe("ended");
    else if (error.code === "no-token") trouble("locked");
    else if (error.code === "no-release") {
      data = null; // so that it is looked for again
      trouble("noRelease");
    } else tell(words(error.code === "busy" ? "busy" : "failed"));
  }
}

let done = Promise.resolve(); // what the shopper did, one after the other: answers never overtake

// Do something once all before it is done; what waits when everything is cleared is never done.
function inTurn(action) {
  const whose = shopper;
  done = done.then(() => whose === shopper ? attempt(action) : undefined);
}

function setReachable(now) {
  if (now === reachable) return;
  reachable = now;
  trouble(now ? null : "offlineServer");
}

function trouble(name) {
  const text = name === null ? "" : words(name);
  if ($("trouble").textContent !== text) $("trouble").textContent = text;
  $("trouble").dataset.name = name ?? "";
  $("trouble").hidden = name === null;
}

function tell(text) {
  $("said").textContent = text;
}

// --- what a shopper does

async function start() {
  if (shopper.session === null) {
    shopper.session = (await ask("POST", "/api/sessions", {})).session;
    shopper.told = performance.now();
  }
}

function scan(code) {
  active();
  shopper.scans += 1;
  $("detail").close(); // what is said stands behind it
  if (!isText(code)) return refuse("unreadable");
  if (code.length > LONGEST) return refuse("tooLong");
  inTurn(async () => {
    await start();
    const { kind, product } = await post("scans", { code });
    if (kind === "unknown") {
      tell(words("unknown", { code }));
      if (shopper.answer === null) $("end").hidden = false;
      return;
    }
    await refresh();
    if (product?.stock === 0) return open(product);
    const what = kind === "card" ? words("card") : words("added", { name: product.name });
    tell(`${what} ${words("shown", { n: shopper.answer.items.length })}`);
    $("results-title").focus();
  });
}

function refuse(name) {
  active();
  $("detail").close();
  tell(words(name));
}

async function browse() {
  await start();
  await refresh();
  tell(words("shown", { n: shopper.answer.items.length }));
  $("results-title").focus();
}

// Ask again; where the same items come, or all but one, they stay where they are.
async function refresh({ keep = false } = {}) {
  const fresh = await post("recommendations", { k: ITEMS, language: shopper.language });
  if (keep && shopper.answer !== null) {
    const places = new Map(shopper.answer.items.map((item, place) => [item.item_id, place]));
    const items = fresh.items.filter((item) => places.has(item.item_id));
    items.sort((a, b) => places.get(a.item_id) - places.get(b.item_id));
    const free = shopper.answer.items.findIndex((old) => !fresh.items.some((item) => item.item_id === old.item_id));
    const others = fresh.items.filter((item) => !places.has(item.item_id));
    items.splice(free < 0 ? items.length : free, 0, ...others);
    fresh.items = items;
  }
  shopper.answer = fresh;
  drawAnswer();
  if (data === null || data.release !== fresh.release) await loadAge();
}

function drawAnswer() {
  const act = {
    open: (item) => inTurn(() => open(item)),
    dismiss: (item) => inTurn(() => dismiss(item)),
    remove: (item) => inTurn(() => remove(item)),
  };
  drawResults(shopper.answer, shopper.language, settings.currency, act);
}

async function open(item) {
  const { scans } = shopper;
  const detail = await post("details", { item_id: item.item_id, language: shopper.language });
  if (shopper.scans !== scans) return; // whoever scanned meanwhile may be another
  shopper.detail = detail;
  drawDetail(shopper.detail, shopper.language, settings.currency);
  drawRelated(null);
  $("detail-dismiss").hidden = !shopper.answer.items.some((each) => each.item_id === item.item_id);
  if (!$("detail").open) $("detail").showModal();
  $("detail").scrollTop = 0;
  if (detail.stock === 0) await relate("instead_of", detail);
  $("detail-title").focus();
}

// What can stand in for the item in the dialog, or goes with it.
async function relate(relation, detail) {
  if (shopper.detail !== detail) return; // it was closed, or another one opened
  const { language } = shopper;
  const found = await post("related", { item_id: detail.item_id, relation, language });
  if (shopper.detail !== detail) return;
  drawRelated(found, language, settings.currency, (item) => inTurn(() => open(item)));
  $("related").firstElementChild.focus();
}

async function dismiss(item) {
  const place = shopper.answer.items.findIndex((each) => each.item_id === item.item_id);
  if (place < 0) return; // pressed twice
  await post("dismissals", { item_id: item.item_id });
  await refresh({ keep: true });
  if ($("detail").open) $("detail").close();
  const instead = shopper.answer.items.length === ITEMS ? shopper.answer.items[place] : undefined;
  tell(instead ? words("replaced", { name: instead.name }) : words("gone"));
  ($("items").children[place]?.querySelector(".open") ?? $("results-title")).focus();
}

async function remove(item) {
  await post("removals", { item_id: item.item_id });
  await refresh();
  tell(words("removed", { name: item.name }));
  $("results-title").focus();
}

// Forget the shopper, here and on the server.
function wipe(said) {
  const { session } = shopper;
  shopper.abort.abort();
  shopper = nobody();
  done = Promise.resolve();
  wipeView();
  drawChoices();
  if (said) tell(words(said));
  $("start-title").focus();
  if (session !== null) {
    fetch(`/api/sessions/${session}`, { method: "DELETE", keepalive: true }).catch(() => setReachable(false));
  }
}

// --- time

function active() {
  $("idle").close();
  alive();
}

function alive() {
  shopper.active = performance.now();
  if (shopper.session !== null && shopper.active - shopper.told > TOUCH_MS) {
    shopper.told = shopper.active;
    attempt(() => post("extensions", {}));
  }
}

function tick() {
  const busy = shopper.session !== null || shopper.size > 0 || shopper.contrast
    || shopper.language !== settings.language || $("code").value !== "";
  if (!busy) return;
  const idle = (performance.now() - shopper.active) / 1000;
  const left = Math.ceil(settings.idle_s + settings.warning_s - idle);
  if (left <= 0) {
    wipe("cleared");
  } else if (idle >= settings.idle_s) {
    if (!$("idle").open) {
      $("idle-text").textContent = words("idle", { n: left }); // told once, not every second
      $("idle").showModal();
      $("idle-stay").focus();
    }
    $("idle-left").textContent = String(left);
  }
}

async function heartbeat() {
  const { signal } = new AbortController();
  try {
    await ask("GET", "/api/health", undefined, signal);
    const back = !reachable;
    setReachable(true);
    if (!ready) await loadSettings();
    if (back || data === null) await loadAge();
    if (back && shopper.answer !== null) inTurn(() => refresh({ keep: true }));
  } catch {
    // setReachable was told
  } finally {
    setTimeout(heartbeat, HEARTBEAT_MS);
  }
}

async function loadSettings() {
  settings = await ask("GET", "/api/settings", undefined, new AbortController().signal);
  ready = true;
  for (const language of settings.languages) {
    if ([...$("languages").children].some((each) => each.lang === language)) continue;
    const button = make("button", { type: "button", lang: language }, WORDS[language].name);
    button.addEventListener("click", () => choose({ language }));
    $("languages").append(button);
  }
  if (shopper.session === null) shopper = nobody();
  drawChoices();
}

async function loadAge() {
  try {
    const told = await ask("GET", "/api/data", undefined, new AbortController().signal);
    data = { ...told.data, release: told.release };
    if ($("trouble").dataset.name === "noRelease") trouble(null);
  } catch (error) {
    data = null;
    if (error.code === "no-release") trouble("noRelease");
    if (error.code === "no-token") trouble("locked");
  }
  drawAge(shopper.language, data);
}

// --- how it looks

function drawChoices() {
  drawWords(shopper.language, shopper.size);
  drawAge(shopper.language, data);
  document.documentElement.className = [SIZES[shopper.size], shopper.contrast ? "contrast" : ""].join(" ").trim();
  $("contrast").setAttribute("aria-pressed", String(shopper.contrast));
  if (!$("trouble").hidden) trouble($("trouble").dataset.name);
}

function choose(choice) {
  Object.assign(shopper, choice);
  drawChoices();
  if (choice.language) {
    tell("");
    if (shopper.answer !== null) inTurn(() => refresh({ keep: true }));
  }
}

// --- wiring

listenForScans(scan, refuse);
// In the warning, its buttons decide: were it closed at once, a press would hit what lies behind.
document.addEventListener("pointerdown", (event) => (event.target.closest("#idle button") ? alive : active)(), true);
document.addEventListener("keydown", (event) => (["Enter", " ", "Tab", "Escape"].includes(event.key) ? alive : active)(), true);
let spoiled = false; // whether a scanner has put control characters into the field
$("code").addEventListener("keydown", (event) => {
  const { ctrlKey, altKey, key } = event;
  if (!ctrlKey || altKey || key.length !== 1 || "acvxyz".includes(key.toLowerCase())) return;
  event.preventDefault(); // Ctrl+J would open the browser's downloads
  spoiled = true;
});
$("by-hand").addEventListener("reset", () => {
  spoiled = false;
});
$("by-hand").addEventListener("submit", (event) => {
  event.preventDefault();
  const [code, bad] = [$("code").value.trim(), spoiled];
  $("by-hand").reset();
  if (bad) refuse("unreadable");
  else if (code !== "") scan(code);
});
$("browse").addEventListener("click", () => inTurn(browse));
$("end").addEventListener("click", () => wipe("cleared"));
$("size").addEventListener("click", () => choose({ size: (shopper.size + 1) % SIZES.length }));
$("contrast").addEventListener("click", () => choose({ contrast: !shopper.contrast }));
$("detail-close").addEventListener("click", () => $("detail").close());
$("detail").addEventListener("close", () => {
  if ($("detail").open) return; // it was opened again at once
  shopper.detail = null;
  wipeDetail();
});
$("detail-dismiss").addEventListener("click", () => {
  const { detail } = shopper;
  inTurn(() => dismiss(detail));
});
for (const relation of ["instead_of", "goes_with"]) {
  $(relation).addEventListener("click", () => {
    const { detail } = shopper;
    inTurn(() => relate(relation, detail));
  });
}
$("idle-stay").addEventListener("click", active);
$("idle-end").addEventListener("click", () => wipe("cleared"));
$("idle").addEventListener("cancel", active);
window.addEventListener("pagehide", () => wipe());
setInterval(tick, 1000);
wipeView();
drawChoices();
heartbeat();
