// The operators' page. No framework, no build: what is here is what runs.
//
// Whatever comes from batches (ids, collector types, reasons, entries) may be anybody's text. It reaches the document as text
// nodes only, through element() and setText(); nothing here parses markup, and the page's content security policy has no
// exception.
//
// One loop asks for the summary every second while the page is visible, and now and then for the rest; a slow answer makes it
// ask more rarely, an error makes it wait longer and longer. Tables keep their rows by key, so that what has the focus keeps it.
"use strict";

const SUMMARY_MILLIS = 1000;
const DETAILS_MILLIS = 3000; // reasons and batches
const HISTORY_MILLIS = 10000;
const STALE_MILLIS = 5000;
const MAX_BACKOFF_MILLIS = 15000;
const ANSWER_MILLIS = 15000; // longer than that is no answer
const LOAD_FACTOR = 10; // what takes t is asked for again after 10 t at the earliest
const COLLECTORS_AT_A_TIME = 20;
const MOST_COLLECTORS_OFFERED = 500;
const MOST_ALERTS = 5;
const BATCHES_A_PAGE = 50;
const MOST_REASONS = 50;
const ENTRIES_AT_A_TIME = 100;

const byId = (id) => document.getElementById(id);

// ---- words -----------------------------------------------------------------------------------------------------------------

const NUMBER = new Intl.NumberFormat("en");
const MOMENT = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" }); // 2026-11-24 20:01:05

const number = (value) => NUMBER.format(value);
const entryCount = (count) => `${number(count)} ${count === 1 ? "entry" : "entries"}`;
const batches = (count) => `${number(count)} ${count === 1 ? "batch" : "batches"}`;

function size(bytes) {
  let value = bytes;
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1024) {
      return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    }
    value /= 1024;
  }
  return `${value.toFixed(1)} TB`;
}

function duration(millis) {
  const seconds = Math.max(0, Math.round(millis / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  if (minutes < 60) {
    return minutes < 10 && seconds % 60 > 0 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  }
  if (hours < 48) {
    return minutes % 60 > 0 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  }
  return hours % 24 > 0 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

/** The time alone if it is today's. */
function moment(instant) {
  if (!instant) {
    return "–";
  }
  const text = MOMENT.format(new Date(instant));
  const [day, time] = text.split(" ");
  return day === MOMENT.format(new Date(now())).split(" ")[0] ? time : text;
}

const age = (instant) => (instant ? duration(now() - Date.parse(instant)) : "–");

const STATES = { PENDING: "pending", IN_FLIGHT: "in flight", DEAD: "dead letter" };

// ---- elements --------------------------------------------------------------------------------------------------------------

/** Children are elements, or texts that stay texts whatever is in them. */
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function button(text, action, className) {
  const made = element("button", { type: "button", class: className || "" }, text);
  made.addEventListener("click", action);
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

function setBadge(node, word, kind) {
  setText(node, word);
  node.className = `badge ${kind}`;
}

function show(node, text, kind) {
  if (kind) {
    node.className = `alert ${kind}`;
  }
  setText(node, text);
  node.hidden = text === "";
}

/**
 * A table whose rows are kept by key. A column has a label and either text(item), or build(row), which makes its content once,
 * and update(content, item). row.item is the latest item of that row.
 *
 * The roles say again what the elements are, because on a narrow screen they are displayed as cards.
 */
class Table {
  constructor(table, columns, key, emptyText) {
    this.columns = columns;
    this.key = key;
    this.emptyText = emptyText;
    this.rows = new Map();
    this.body = element("tbody", { role: "rowgroup" });
    const head = element("tr", { role: "row" });
    for (const column of columns) {
      head.append(element("th", { scope: "col", role: "columnheader", class: column.kind || "" }, column.label));
    }
    table.setAttribute("role", "table");
    table.append(element("thead", { role: "rowgroup" }, head), this.body);
  }

  fill(items) {
    const focused = document.activeElement;
    const rows = new Map();
    for (const item of items) {
      const key = this.key(item);
      const row = this.rows.get(key) || this.makeRow();
      row.item = item;
      this.columns.forEach((column, i) => {
        if (column.text) {
          setText(row.cells[i], column.text(item));
        } else if (column.update) {
          column.update(row.cells[i].firstChild, item);
        }
      });
      rows.set(key, row);
    }
    for (const [key, row] of this.rows) {
      if (rows.get(key) !== row) {
        row.remove();
      }
    }
    if (this.emptyRow) {
      this.emptyRow.remove();
      this.emptyRow = null;
    }
    let place = this.body.firstChild;
    for (const row of rows.values()) {
      if (row === place) {
        place = place.nextSibling;
      } else {
        this.body.insertBefore(row, place);
      }
    }
    if (rows.size === 0) {
      const cell = element("td", { colspan: this.columns.length, role: "cell", class: "muted" }, this.emptyText());
      this.emptyRow = element("tr", { role: "row" }, cell);
      this.body.append(this.emptyRow);
    }
    this.rows = rows;
    if (focused !== document.activeElement && focused && focused.isConnected) {
      focused.focus({ preventScroll: true }); // its row was moved
    }
  }

  makeRow() {
    const row = element("tr", { role: "row" });
    this.columns.forEach((column, i) => {
      const cell = element(i === 0 ? "th" : "td", { "data-label": column.label, class: column.kind || "" });
      cell.setAttribute("role", i === 0 ? "rowheader" : "cell");
      if (i === 0) {
        cell.setAttribute("scope", "row");
      }
      if (column.build) {
        cell.append(column.build(row));
      }
      row.append(cell);
    });
    return row;
  }
}

// ---- asking the application ------------------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let session = { access: "read_only" };

async function ask(path, options) {
  const answer = await fetch(path === "" ? "api" : `api/${path}`, {
    redirect: "manual", // to a page for signing in, most likely
    signal: AbortSignal.timeout(ANSWER_MILLIS),
    ...options,
    // X-Requested-With: Spring Security then answers 401, instead of having the browser ask for a password.
    headers: { Accept: "application/json", "X-Requested-With": "XMLHttpRequest", ...((options || {}).headers || {}) },
  });
  if (answer.type === "opaqueredirect" || answer.status === 401) {
    throw new Refusal(401, "You are not signed in, or not any more. Load the page again to sign in.");
  }
  const text = await answer.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    if (answer.ok) {
      throw new Refusal(502, "The answer is not what was expected. Load the page again.");
    }
  }
  if (!answer.ok) {
    const said = body && typeof body.message === "string" ? body.message : "";
    const meaning = answer.status === 403 ? "You may not do or see this" : "The application refuses";
    throw new Refusal(answer.status, said || `${meaning} (status ${answer.status}).`);
  }
  return body;
}

function query(path, parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) {
        search.append(name, one);
      }
    }
  }
  return ask(`${path}?${search}`);
}

async function post(operation, body) {
  const send = () => {
    const headers = { "Content-Type": "application/json", "X-Batch-Persistence": "page" };
    if (session.csrfHeader) {
      headers[session.csrfHeader] = session.csrfToken;
    }
    return ask(operation, { method: "POST", headers, body: JSON.stringify(body) });
  };
  try {
    return await send();
  } catch (problem) {
    if (problem.status !== 403 || !session.csrfHeader) {
      throw problem;
    }
    session = await ask("session"); // the token may be that of a session that has ended
    return send();
  }
}

const maySend = () => session.access === "unrestricted";

// ---- the loop --------------------------------------------------------------------------------------------------------------

let summary = null;
let summaryAt = 0; // performance.now() of its arrival
let failures = 0;
let updatesPaused = false;
let running = false;
let again = false; // something was asked for while the loop was running
let timer = 0;
const dueAt = { history: 0, details: 0 };

/** The application's time, which its instants are compared with; not that of this computer. */
const now = () => (summary ? Date.parse(summary.at) + performance.now() - summaryAt : Date.now());

function later(millis) {
  clearTimeout(timer);
  if (!updatesPaused && !document.hidden) {
    timer = setTimeout(loop, millis);
  }
}

async function loop() {
  if (running) {
    return;
  }
  running = true;
  again = false;
  clearTimeout(timer);
  const begin = performance.now();
  let pause = SUMMARY_MILLIS;
  try {
    await refreshSummary();
    pause = Math.max(SUMMARY_MILLIS, LOAD_FACTOR * (performance.now() - begin));
    if (begin >= dueAt.details) {
      const detailsBegin = performance.now();
      await Promise.all([refreshReasons(), refreshBatches()]);
      const took = performance.now() - detailsBegin;
      dueAt.details = performance.now() + Math.max(DETAILS_MILLIS, LOAD_FACTOR * took);
    }
    if (begin >= dueAt.history) {
      await refreshHistory();
      dueAt.history = performance.now() + HISTORY_MILLIS;
    }
    failures = 0;
    show(byId("connection"), "");
  } catch (problem) {
    failures++;
    pause = Math.min(MAX_BACKOFF_MILLIS, SUMMARY_MILLIS * 2 ** (failures - 1));
    sayNoAnswer(problem, pause);
  } finally {
    running = false;
    if (again) {
      refreshAll();
    } else {
      later(pause);
    }
  }
}

/** At once, whatever is due when; after an operation, for instance. */
function refreshAll() {
  dueAt.history = 0;
  dueAt.details = 0;
  if (running) {
    again = true;
  } else {
    loop();
  }
}

function sayNoAnswer(problem, pause) {
  const what = problem instanceof Refusal ? problem.message.replace(/\.?$/, ".") : "The application does not answer.";
  const since = summary ? ` The numbers below are those of ${moment(summary.at)}.` : "";
  show(byId("connection"), `${what}${since} Asking again ${pause >= 2000 ? `every ${duration(pause)}` : "soon"}.`, "bad");
  showLive();
}

function showLive() {
  const word = byId("live-word");
  const old = summary !== null && performance.now() - summaryAt > STALE_MILLIS;
  if (updatesPaused) {
    setBadge(word, "Updates paused", "warn");
  } else if (failures > 0) {
    setBadge(word, summary ? "Out of date" : "No answer", "bad");
  } else if (!summary) {
    setBadge(word, "Loading", "");
  } else if (old) {
    setBadge(word, "Out of date", "warn");
  } else {
    setBadge(word, "Live", "ok");
  }
  const passed = summary ? performance.now() - summaryAt : 0;
  setText(byId("live-time"), summary ? `as of ${moment(summary.at)}${old ? `, ${duration(passed)} ago` : ""}` : "");
  document.body.classList.toggle("stale", failures > 0 || old);
}

function pauseUpdates() {
  updatesPaused = !updatesPaused;
  byId("pause-updates").setAttribute("aria-pressed", String(updatesPaused));
  if (updatesPaused) {
    clearTimeout(timer);
  } else {
    refreshAll();
  }
  showLive();
}

// ---- state at a glance -----------------------------------------------------------------------------------------------------

async function refreshSummary() {
  const answer = await ask("");
  const before = summary;
  summary = answer;
  summaryAt = performance.now();
  failures = 0;
  collectors = Object.entries(summary.collectors).map(([name, collector]) => ({
    name,
    ...collector,
    waiting: collector.pending.batches,
    condition: condition(collector),
  }));
  announceChanges(before);
  showTiles();
  showAlerts();
  showCollectors();
  drawBacklog();
  showLive();
}

/** What a lane is doing: a word, how bad it is (0: worst), a few more words. */
function condition(collector) {
  const lane = collector.lane;
  if (!lane) {
    return { word: "Idle", kind: "", rank: 6, more: "" };
  }
  if (lane.paused) {
    const down = lane.state === "OPEN" ? "; was down" : "";
    return { word: "Paused", kind: "warn", rank: 2, more: `nothing is sent${down}` };
  }
  if (lane.unhandled) {
    return { word: "No sender", kind: "bad", rank: 1, more: "the application has no sender and no listener" };
  }
  if (lane.state === "OPEN") {
    const wait = lane.nextProbeAt ? Date.parse(lane.nextProbeAt) - now() : 0;
    const probe = wait >= 500 ? `, next try in ${duration(wait)}` : ", tried now";
    return { word: "Down", kind: "bad", rank: 0, more: `for ${age(lane.outageSince)}${probe}` };
  }
  if (lane.state === "RAMPING") {
    const rate = lane.rate > 0 ? `${number(Math.round(lane.rate))} a second` : "";
    return { word: "Recovering", kind: "warn", rank: 4, more: rate };
  }
  if (lane.failuresInARow > 0) {
    return { word: "Failing", kind: "warn", rank: 3, more: `${number(lane.failuresInARow)} in a row` };
  }
  return { word: "Up", kind: "ok", rank: 5, more: "" };
}

const sum = (part) => collectors.reduce((total, collector) => total + part(collector), 0);

function showTiles() {
  const entries = sum((collector) => collector.pending.entries || 0);
  const oldestPending = collectors.map((collector) => collector.pending.oldest).filter(Boolean)
    .sort((a, b) => Date.parse(a) - Date.parse(b))[0];
  tile("waiting", number(sum((collector) => collector.waiting)), `batches, ${entryCount(entries)}`);
  tile("oldest", oldestPending ? age(oldestPending) : "–", oldestPending ? `since ${moment(oldestPending)}` : "nothing waits");
  tile("in-flight", number(sum((collector) => collector.inFlight.batches)), "batches");
  tile("dead", number(sum((collector) => collector.dead.batches)), "batches given up, kept");
  tile("delivered", number(sum((collector) => collector.delivered)),
    `of ${number(sum((collector) => collector.accepted))} taken`);
  tile("store", `${Math.round(summary.fillLevel * 100)} % full`,
    `${size(summary.diskUsage)} of ${size(summary.maxDiskUsage)}, ${number(summary.batches)} of ${number(summary.maxBatches)} batches`);
}

function tile(name, value, more) {
  const node = byId(`tile-${name}`);
  if (!node.firstElementChild) {
    node.replaceChildren(element("span", {}), element("small", {}));
  }
  setText(node.firstElementChild, value);
  setText(node.lastElementChild, more);
}

function showAlerts() {
  const alerts = [];
  if (summary.problem) {
    alerts.push(["bad", `Batches can't be taken: ${summary.problem}`]);
  }
  const fallback = summary.fallback;
  if (fallback && fallback.reason) {
    alerts.push(["warn", `The database can't be used: ${fallback.reason}. New batches are kept on this instance's disk, in `
      + `${fallback.place}, where ${number(fallback.batches)} wait for it; what is in the database is not sent meanwhile.`]);
  } else if (fallback && fallback.batches > 0) {
    alerts.push(["warn", `${batches(fallback.batches)} from a time without the database ${fallback.batches === 1 ? "is" : "are"} `
      + `still to be moved to it from ${fallback.place}.`]);
  }
  if (summary.fillLevel >= 0.9) {
    alerts.push(["warn", `The store is ${Math.round(summary.fillLevel * 100)} % full.`]);
  }
  const bad = collectors.filter((collector) => collector.condition.rank <= 2).sort(byCondition);
  for (const collector of bad.slice(0, MOST_ALERTS)) {
    alerts.push([collector.condition.kind, sentence(collector)]);
  }
  if (bad.length > MOST_ALERTS) {
    alerts.push(["warn", `${number(bad.length - MOST_ALERTS)} more collectors are down, paused or without a sender.`]);
  }
  if (collectors.length > 0 && alerts.length === 0) {
    alerts.push(["ok", "All collectors take batches."]);
  }
  if (collectors.length === 0) {
    alerts.push(["ok", "No batch was persisted yet."]);
  }
  const list = byId("alerts");
  while (list.childElementCount > alerts.length) {
    list.lastElementChild.remove();
  }
  alerts.forEach(([kind, text], i) => {
    const item = list.children[i] || list.appendChild(element("li", {}));
    item.className = `alert ${kind}`;
    setText(item, text);
  });
  const worst = bad.length > 0 ? `${bad[0].name}: ${bad[0].condition.word.toLowerCase()} – ` : "";
  document.title = `${worst}Batch persistence`;
}

function sentence(collector) {
  const waits = collector.waiting > 0 ? ` ${batches(collector.waiting)} ${collector.waiting === 1 ? "waits" : "wait"}.` : "";
  const why = collector.lane.lastFailure ? ` Last failure: ${collector.lane.lastFailure}` : "";
  const more = collector.condition.more ? ` (${collector.condition.more})` : "";
  return `${collector.name}: ${collector.condition.word.toLowerCase()}${more}.${waits}${why}`;
}

function announceChanges(before) {
  if (!before) {
    return;
  }
  const changes = [];
  for (const collector of collectors) {
    const old = before.collectors[collector.name];
    const word = old ? condition(old).word : "Idle";
    const rank = collector.condition.rank;
    if (word !== collector.condition.word && (rank <= 2 || (rank === 5 && word !== "Idle"))) {
      const why = rank <= 2 && collector.lane.lastFailure ? `: ${collector.lane.lastFailure}` : "";
      changes.push(`${collector.name} is ${collector.condition.word.toLowerCase()}${why}`);
    }
    const dead = collector.dead.batches - (old ? old.dead.batches : 0);
    if (dead > 0) {
      changes.push(`${number(dead)} more dead letters of ${collector.name}`);
    }
  }
  if (before.problem !== summary.problem && summary.problem) {
    changes.push(`batches can't be taken: ${summary.problem}`);
  }
  if (changes.length > 0) {
    setText(byId("announcer"), `${changes.slice(0, 3).join("; ")}.`);
  }
}

// ---- collectors ------------------------------------------------------------------------------------------------------------

let collectors = [];
let collectorsShown = COLLECTORS_AT_A_TIME;
let collectorsTable = null;
let offeredNames = "";

/** Worst first; among equals those with many batches, but so coarsely that rows do not change places all the time. */
function byCondition(a, b) {
  const held = (collector) => Math.ceil(Math.log2(1 + collector.waiting + collector.dead.batches));
  return a.condition.rank - b.condition.rank || held(b) - held(a) || (a.name < b.name ? -1 : 1);
}

function collectorColumns() {
  const columns = [
    { label: "Collector", text: (collector) => collector.name },
    {
      label: "State",
      build: () => element("div", {}, element("span", { class: "badge" }), element("small", {})),
      update: (node, collector) => {
        setBadge(node.firstChild, collector.condition.word, collector.condition.kind);
        setText(node.lastChild, collector.condition.more);
      },
    },
    { label: "Oldest waiting", kind: "time", text: (collector) => age(collector.pending.oldest) },
    { label: "Waiting", kind: "number", text: (collector) => number(collector.waiting) },
    { label: "Being sent", kind: "number", text: (collector) => number(collector.inFlight.batches) },
    {
      label: "Dead letters",
      kind: "number",
      build: (row) => button("0", () => setFilter({ state: "dead", collectorType: row.item.name }), "link"),
      update: (node, collector) => {
        setText(node, number(collector.dead.batches));
        node.disabled = collector.dead.batches === 0;
        node.setAttribute("aria-label", `${batches(collector.dead.batches)} given up of ${collector.name}: show them`);
      },
    },
    { label: "Delivered", kind: "number", text: (collector) => number(collector.delivered) },
    { label: "Last failure", kind: "long", text: (collector) => (collector.lane && collector.lane.lastFailure) || "–" },
  ];
  if (maySend()) {
    columns.push({
      label: "Actions",
      build: (row) => element("div", { class: "controls" },
        button("Pause", () => pauseOrResume(row.item)),
        button("Retry now", () => confirmOperation("recover", { collectorType: row.item.name }))),
      update: (node, collector) => {
        const word = isPaused(collector) ? "Resume" : "Pause";
        setText(node.firstChild, word);
        node.firstChild.setAttribute("aria-label", `${word} ${collector.name}`);
        node.lastChild.setAttribute("aria-label", `Retry now: ${collector.name}`);
        node.lastChild.disabled = collector.waiting === 0;
      },
    });
  }
  return columns;
}

const isPaused = (collector) => Boolean(collector.lane && collector.lane.paused);

function pauseOrResume(collector) {
  confirmOperation(isPaused(collector) ? "resume" : "pause", { collectorType: collector.name });
}

function showCollectors() {
  const search = byId("collector-search").value.trim().toLowerCase();
  const found = collectors.filter((collector) => collector.name.toLowerCase().includes(search)).sort(byCondition);
  collectorsTable.fill(found.slice(0, collectorsShown));
  byId("collector-search-controls").hidden = collectors.length <= 5 && search === "";
  byId("collectors-more").hidden = found.length <= collectorsShown;
  setText(byId("collectors-shown"), `${number(Math.min(collectorsShown, found.length))} of ${number(found.length)} are shown.`);
  offerNames(collectors.map((collector) => collector.name));
}

/** For the choice of a collector in the other sections. */
function offerNames(names) {
  const offered = names.slice(0, MOST_COLLECTORS_OFFERED);
  const joined = JSON.stringify(offered);
  if (joined === offeredNames) {
    return;
  }
  offeredNames = joined;
  byId("collector-names").replaceChildren(...offered.map((name) => element("option", { value: name })));
  const select = byId("backlog-collector");
  const chosen = select.value;
  select.replaceChildren(element("option", { value: "" }, "All"),
    ...offered.map((name) => element("option", { value: name }, name)));
  select.value = offered.includes(chosen) ? chosen : "";
}

// ---- backlog over time -----------------------------------------------------------------------------------------------------

let samples = { at: [], waiting: [], dead: [], collectors: {} };

async function refreshHistory() {
  samples = await query("history", { minutes: byId("backlog-window").value });
  drawBacklog();
}

/** What the application has noted, and the numbers of this moment. */
function backlog() {
  const type = byId("backlog-collector").value;
  const series = type === "" ? samples : samples.collectors[type];
  const points = samples.at.map((second, i) => ({
    at: second * 1000,
    waiting: series ? series.waiting[i] : 0,
    dead: series ? series.dead[i] : 0,
  }));
  const count = (part) => sum((collector) => (type === "" || collector.name === type ? collector[part].batches : 0));
  points.push({ at: now(), waiting: count("pending"), dead: count("dead") });
  return points;
}

function drawBacklog() {
  if (!summary) {
    return;
  }
  const points = backlog();
  const end = points[points.length - 1].at;
  // The whole period, or what there is of it: soon after a start most of it would be empty.
  const begin = Math.max(end - 60000 * Number(byId("backlog-window").value), Math.min(points[0].at, end - 60000));
  const clock = end - begin < 600000 ? [11, 19] : [11, 16];
  const most = points.reduce((a, b) => (b.waiting > a.waiting ? b : a));
  const last = points[points.length - 1];
  const top = niceTop(Math.max(...points.map((point) => Math.max(point.waiting, point.dead))));
  const width = Math.max(280, byId("chart").clientWidth || 800);
  const height = 200;
  const left = 12 + 8 * number(top).length;
  const x = (at) => left + ((Math.max(at, begin) - begin) / (end - begin)) * (width - left - 10);
  const y = (value) => 10 + (1 - value / top) * (height - 40);
  const line = (part) => points.map((point) => `${x(point.at).toFixed(1)},${y(point[part]).toFixed(1)}`).join(" ");
  const atMost = most.waiting > last.waiting ? `, at most ${number(most.waiting)} at ${moment(most.at)}` : "";
  const words = `Waiting: ${number(last.waiting)} now${atMost}. Dead letters: ${number(last.dead)} now.`;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  for (const value of [0, top / 2, top]) {
    svg.append(
      drawn("line", { class: "grid", x1: left, x2: width - 10, y1: y(value), y2: y(value) }),
      drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const ticks = width < 500 ? 2 : 4;
  for (let i = 0; i <= ticks; i++) {
    const at = begin + ((end - begin) * i) / ticks;
    const anchor = i === 0 ? "start" : i === ticks ? "end" : "middle";
    svg.append(drawn("text", { x: x(at), y: height - 8, "text-anchor": anchor }, MOMENT.format(at).slice(...clock)));
  }
  svg.append(
    drawn("polygon", { class: "waiting-area", points: `${x(points[0].at)},${y(0)} ${line("waiting")} ${x(end)},${y(0)}` }),
    drawn("polyline", { class: "waiting", points: line("waiting") }),
    drawn("polyline", { class: "dead", points: line("dead") }));
  const sample = (name) => {
    const swatch = drawn("svg", { viewBox: "0 0 30 10", width: 30, height: 10, "aria-hidden": "true" },
      drawn("line", { class: name, x1: 0, x2: 30, y1: 5, y2: 5 }));
    swatch.classList.add("swatch");
    return swatch;
  };
  const legend = element("p", { class: "legend" },
    element("span", {}, sample("waiting"), `waiting: ${number(last.waiting)} now${atMost}`),
    element("span", {}, sample("dead"), `dead letters: ${number(last.dead)} now`));
  byId("chart").replaceChildren(svg, legend);
  if (byId("backlog-numbers").open) {
    const step = Math.max(1, Math.ceil(points.length / 20));
    backlogTable.fill(points.filter((_, i) => (points.length - 1 - i) % step === 0).reverse());
  }
}

/** 2, 4, 10, 20, 40, 100 and so on: half of it is a whole number, too. */
function niceTop(value) {
  for (let power = 1; ; power *= 10) {
    for (const digit of [2, 4, 10]) {
      if (digit * power >= value) {
        return digit * power;
      }
    }
  }
}

let backlogTable = null;

// ---- why batches fail ------------------------------------------------------------------------------------------------------

let reasonsTable = null;

function reasonColumns() {
  return [
    {
      label: "Reason",
      build: (row) => button("", () => setFilter({
        state: byId("reasons-state").value,
        collectorType: row.item.collectorType,
        failureReason: asGlob(row.item.reason),
      }), "link reason"),
      update: (node, group) => {
        setText(node, group.reason);
        node.setAttribute("title", "Show these batches");
      },
    },
    { label: "Collector", kind: "long", text: (group) => group.collectorType },
    { label: "Batches", kind: "number", text: (group) => number(group.batches) },
    { label: "First", kind: "time", text: (group) => moment(group.firstFailure) },
    { label: "Last", kind: "time", text: (group) => moment(group.lastFailure) },
  ];
}

/** A glob that matches the reason: one character of any kind stands for each of its own stars. */
const asGlob = (reason) => reason.replaceAll("*", "?");

async function refreshReasons() {
  const answer = await query("reasons", { state: byId("reasons-state").value });
  reasonsTable.fill(answer.reasons.slice(0, MOST_REASONS));
  const more = answer.reasons.length - MOST_REASONS;
  show(byId("reasons-note"), more > 0 ? `${number(more)} more reasons, each of fewer batches.` : "");
}

// ---- batches ---------------------------------------------------------------------------------------------------------------

let filter = {};
let pages = [""]; // the cursors of the pages up to the one that is shown
let nextPage = null;
let batchesTable = null;
let filterVersion = 0;

const batchColumns = [
  {
    label: "Id",
    build: (row) => button("", () => openDetail(row.item.id), "link id"),
    update: (node, batch) => setText(node, batch.id),
  },
  { label: "Collector", kind: "long", text: (batch) => batch.collectorType },
  {
    label: "State",
    build: () => element("span", { class: "badge" }),
    update: (node, batch) => setBadge(node, STATES[batch.state] || batch.state, batch.state === "DEAD" ? "bad" : ""),
  },
  { label: "Age", kind: "time", text: (batch) => age(batch.createdAt) },
  { label: "Failure reason", kind: "long", text: (batch) => batch.failureReason || "–" },
  { label: "Retries", kind: "number", text: (batch) => number(batch.retryCount) },
  { label: "Next try", kind: "time", text: (batch) => nextTry(batch) },
  { label: "Entries", kind: "number", text: (batch) => number(batch.entryCount) },
  { label: "Size", kind: "number", text: (batch) => size(batch.bytes) },
];

function nextTry(batch) {
  if (batch.state !== "PENDING" || !batch.nextAttemptAt) {
    return "–";
  }
  const millis = Date.parse(batch.nextAttemptAt) - now();
  return millis > 0 ? `in ${duration(millis)}` : "due";
}

function readFilter() {
  const fields = new FormData(byId("filter"));
  const read = {};
  for (const [name, value] of fields) {
    if (value.trim() !== "") {
      read[name] = value.trim();
    }
  }
  return read;
}

const filterInAddress = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function fillForm(wanted) {
  for (const field of byId("filter").elements) {
    if (field.name) {
      field.value = Object.hasOwn(wanted, field.name) ? wanted[field.name] : "";
    }
  }
}

/** Puts it into the form, and shows what it finds. */
function setFilter(wanted) {
  fillForm(wanted);
  applyFilter();
  byId("batches-heading").scrollIntoView();
  byId("batches-heading").focus();
}

function applyFilter() {
  filter = readFilter();
  pages = [""];
  filterVersion++;
  history.replaceState(null, "", Object.keys(filter).length > 0 ? `#${new URLSearchParams(filter)}` : location.pathname);
  showFilterOperations();
  setText(byId("announcer"), "");
  return refreshBatches().then(() => {
    setText(byId("announcer"), byId("filter-problem").hidden ? `${batches(batchesTable.rows.size)} listed.` : "");
  }).catch(() => refreshAll());
}

async function refreshBatches() {
  const version = filterVersion;
  const page = pages.length;
  let answer;
  try {
    answer = await query("batches", { ...filter, limit: BATCHES_A_PAGE, after: pages[page - 1] });
  } catch (problem) {
    if (problem.status !== 400) {
      throw problem;
    }
    if (version === filterVersion) {
      show(byId("filter-problem"), problem.message, "bad");
    }
    return;
  }
  if (version !== filterVersion || page !== pages.length) {
    return; // an answer to a question that was asked before
  }
  show(byId("filter-problem"), "");
  nextPage = answer.next || null;
  batchesTable.fill(answer.batches);
  byId("pages").hidden = page === 1 && nextPage === null;
  byId("page-first").disabled = page === 1;
  byId("page-previous").disabled = page === 1;
  byId("page-next").disabled = nextPage === null;
  setText(byId("page-number"), `Page ${number(page)}`);
}

function turnTo(wanted) {
  pages = wanted;
  filterVersion++;
  refreshBatches().then(() => setText(byId("announcer"), `Page ${number(pages.length)}.`)).catch(() => refreshAll());
}

/** Operations that make sense with the state that is selected. */
function showFilterOperations() {
  const group = byId("filter-operations");
  group.hidden = !maySend();
  if (group.hidden) {
    return;
  }
  const { state, order, ...rest } = filter;
  const offered = [];
  if (state === undefined || state === "pending") {
    offered.push(button("Retry all of these now…", () => confirmOperation("recover", rest)));
  }
  if (state === undefined || state === "dead") {
    offered.push(button("Replay these dead letters…", () => confirmOperation("replay", rest)));
  }
  if (state !== "in_flight" && Object.keys(filter).some((name) => name !== "order")) {
    const which = state === undefined ? rest : { state, ...rest };
    offered.push(button("Discard all of these…", () => confirmOperation("discard", which), "danger"));
  }
  group.replaceChildren(...offered);
}

// ---- one batch -------------------------------------------------------------------------------------------------------------

async function openDetail(id) {
  const dialog = byId("detail");
  setText(byId("detail-heading"), `Batch ${id}`);
  byId("detail-body").replaceChildren(element("p", { role: "status" }, "Loading…"));
  dialog.showModal();
  byId("detail-heading").focus();
  let content;
  try {
    content = detail(await query("batch", { id }));
  } catch (problem) {
    const text = problem instanceof Refusal ? problem.message : "The application does not answer.";
    content = [element("p", { class: "alert bad", role: "alert" }, text)];
  }
  if (dialog.open && byId("detail-heading").textContent === `Batch ${id}`) {
    byId("detail-body").replaceChildren(...content);
  }
}

function detail(batch) {
  const facts = element("dl", { class: "facts" });
  const fact = (name, value) => facts.append(element("dt", {}, name), element("dd", {}, value));
  fact("State", STATES[batch.state] || batch.state);
  fact("Collector", batch.collectorType);
  fact("Persisted", `${moment(batch.createdAt)}, ${age(batch.createdAt)} ago`);
  fact("Failed attempts", number(batch.retryCount));
  if (batch.nextAttemptAt) {
    fact(batch.state === "IN_FLIGHT" ? "Times out" : "Next try", moment(batch.nextAttemptAt));
  }
  fact("Holds", `${entryCount(batch.entryCount)}, ${size(batch.bytes)}`);
  const content = [facts];
  const operations = [];
  if (maySend()) {
    const act = (operation) => () => confirmOperation(operation, { id: batch.id });
    if (batch.state === "PENDING") {
      operations.push(button("Retry now…", act("recover")));
    }
    if (batch.state === "DEAD") {
      operations.push(button("Replay…", act("replay")));
    }
    if (batch.state !== "IN_FLIGHT") {
      operations.push(button("Discard…", act("discard"), "danger"));
    }
  }
  content.push(element("div", { class: "controls" }, ...operations));
  content.push(element("h3", {}, "History"), historyOf(batch));
  const context = Object.entries(batch.context || {});
  if (context.length > 0) {
    const list = element("dl", { class: "facts" });
    context.forEach(([name, value]) => list.append(element("dt", {}, name), element("dd", {}, String(value))));
    content.push(element("h3", {}, "Context"), list);
  }
  content.push(element("h3", {}, "Entries"));
  if (batch.entries) {
    content.push(...entryTable(batch.entries));
  } else {
    content.push(element("p", { class: "muted" },
      "Entries are not shown here: batch_persistence.endpoint.show_entries says who sees them."));
  }
  return content;
}

function historyOf(batch) {
  const events = [[batch.createdAt, "persisted"]];
  for (const failure of batch.earlierFailures || []) {
    events.push([failure.at, `failed: ${failure.reason}`]);
  }
  if (batch.lastAttempt) {
    events.push([batch.lastAttempt, `failed: ${batch.failureReason || "for an unknown reason"}`]);
  }
  if (batch.state === "DEAD") {
    events.push([batch.lastAttempt, "given up: a dead letter since then"]);
  }
  const list = element("ol", { class: "history" });
  for (const [at, what] of events) {
    list.append(element("li", {}, element("time", {}, moment(at)), ` ${what}`));
  }
  return list;
}

function entryTable(entries) {
  const node = element("table", { "aria-label": "Entries" });
  const table = new Table(node, [
    { label: "Time", kind: "time", text: (item) => moment(item.entry.timestamp) },
    { label: "Level", text: (item) => item.entry.level || "–" },
    { label: "Message", kind: "long", text: (item) => item.entry.message },
    { label: "More", kind: "long", text: (item) => rest(item.entry) || "–" },
  ], (item) => item.index, () => "No entries.");
  let shown = 0;
  const items = entries.map((entry, index) => ({ entry, index }));
  const note = element("p", { class: "muted" });
  const showMore = () => {
    shown = Math.min(items.length, shown + ENTRIES_AT_A_TIME);
    table.fill(items.slice(0, shown));
    note.replaceChildren(`${number(shown)} of ${number(items.length)} are shown. `);
    if (shown < items.length) {
      note.append(button("Show more entries", showMore));
    }
  };
  showMore();
  return [node, note];
}

/** Whatever else an entry has. */
function rest(entry) {
  const { timestamp, level, message, labels, fields, ...others } = entry;
  const parts = [];
  for (const [name, value] of Object.entries({ ...labels, ...fields, ...others })) {
    if (value !== null) {
      parts.push(`${name}=${typeof value === "object" ? JSON.stringify(value) : value}`);
    }
  }
  return parts.join(" ");
}

// ---- operations: counted first, then confirmed -----------------------------------------------------------------------------

const OPERATIONS = {
  recover: {
    heading: "Retry now",
    what: (which) => `Try ${which} at once, whatever time they wait for.`,
    would: (count) => `${batches(count)} will be tried now.`,
    none: "No batch that waits is among them.",
    done: (count) => `${batches(count)} ${count === 1 ? "is" : "are"} tried now.`,
    noun: "waiting batches",
  },
  replay: {
    heading: "Replay dead letters",
    what: (which) => `Make ${which} pending again, with all their retries.`,
    would: (count) => `${batches(count)} will be replayed.`,
    none: "No dead letter is among them.",
    done: (count) => `${batches(count)} ${count === 1 ? "was" : "were"} replayed.`,
    noun: "dead letters",
  },
  discard: {
    heading: "Discard",
    what: (which) => `Delete ${which} for good, undelivered. This can't be undone.`,
    would: (count) => `${batches(count)} will be deleted.`,
    none: "No such batch is held.",
    done: (count) => `${batches(count)} ${count === 1 ? "was" : "were"} discarded.`,
    noun: "batches",
  },
  pause: {
    heading: "Pause",
    what: (which, body) => `Send nothing to ${body.collectorType} until it is resumed, also after a restart. `
      + "Batches are taken as ever and wait; those that outlive their time to live expire.",
    would: (count, body) => `${body.collectorType} will be paused; ${batches(waitingFor(body.collectorType))} wait.`,
    none: "It is paused already.",
    done: (count, body) => `${body.collectorType} is paused.`,
  },
  resume: {
    heading: "Resume",
    what: (which, body) => `Send to ${body.collectorType} again.`,
    would: (count, body) => `${body.collectorType} will be resumed; ${batches(waitingFor(body.collectorType))} wait.`,
    none: "It is not paused.",
    done: (count, body) => `${body.collectorType} is resumed.`,
  },
};

const waitingFor = (type) => (summary && summary.collectors[type] ? summary.collectors[type].pending.batches : 0);

let operationVersion = 0;
let confirmed = null;

function described(body, noun) {
  const conditions = [];
  if (body.id) {
    return `the batch ${body.id}`;
  }
  if (body.collectorType) {
    conditions.push(`of ${body.collectorType}`);
  }
  if (body.failureReason) {
    conditions.push(`that failed with “${body.failureReason}”`);
  }
  if (body.olderThan) {
    conditions.push(`older than ${body.olderThan}`);
  }
  if (body.youngerThan) {
    conditions.push(`younger than ${body.youngerThan}`);
  }
  if (body.minRetries || body.maxRetries) {
    conditions.push(`with ${body.minRetries || 0} to ${body.maxRetries || "any number of"} retries`);
  }
  const state = body.state === "dead" ? "dead letters" : body.state === "pending" ? "waiting batches" : noun;
  return `all ${[state, ...conditions].join(" ")}`;
}

async function confirmOperation(operation, which) {
  const words = OPERATIONS[operation];
  const body = { ...which };
  for (const name of ["minRetries", "maxRetries"]) {
    if (body[name] !== undefined) {
      body[name] = Number(body[name]);
    }
  }
  const version = ++operationVersion;
  const count = byId("operation-count");
  const confirm = byId("operation-confirm");
  setText(byId("operation-heading"), words.heading);
  setText(byId("operation-what"), words.what(described(body, words.noun), body));
  setText(count, "Counting…");
  count.className = "";
  setText(confirm, words.heading);
  confirm.className = operation === "discard" ? "danger" : "primary";
  confirm.disabled = true;
  confirmed = null;
  byId("operation-rate-field").hidden = operation !== "replay";
  byId("operation-rate").value = "";
  byId("operation").showModal();
  byId("operation-heading").focus();
  try {
    const result = await post(operation, { ...body, dryRun: true });
    if (version !== operationVersion) {
      return;
    }
    setText(count, result.batches > 0 ? words.would(result.batches, body) : words.none);
    confirm.disabled = result.batches === 0;
    confirmed = { operation, body };
  } catch (problem) {
    if (version === operationVersion) {
      sayFailed(problem);
    }
  }
}

async function carryOut() {
  if (!confirmed) {
    return; // not counted yet
  }
  const { operation, body } = confirmed;
  confirmed = null;
  const version = operationVersion;
  const rate = byId("operation-rate").value;
  byId("operation-confirm").disabled = true;
  setText(byId("operation-count"), "Working…");
  try {
    const result = await post(operation, {
      ...body,
      ...(operation === "replay" && Number(rate) > 0 ? { perSecond: Number(rate) } : {}),
      dryRun: false,
    });
    if (version === operationVersion) {
      byId("operation").close();
      byId("detail").close();
    }
    show(byId("message"), OPERATIONS[operation].done(result.batches, body), "ok");
    refreshAll();
  } catch (problem) {
    if (version === operationVersion) {
      sayFailed(problem);
    }
  }
}

function sayFailed(problem) {
  const text = problem instanceof Refusal ? problem.message : "The application does not answer.";
  setText(byId("operation-count"), text);
  byId("operation-count").className = "alert bad";
}

// ---- start -----------------------------------------------------------------------------------------------------------------

function build() {
  collectorsTable = new Table(byId("collectors"), collectorColumns(), (collector) => collector.name,
    () => (Object.keys(summary.collectors).length > 0 ? "No collector of that name." : "There are none yet."));
  reasonsTable = new Table(byId("reasons"), reasonColumns(), (group) => JSON.stringify([group.collectorType, group.reason]),
    () => "No batch that is held has failed.");
  batchesTable = new Table(byId("batches"), batchColumns, (batch) => batch.id, () => "No such batch is held.");
  backlogTable = new Table(byId("backlog-table"), [
    { label: "Time", kind: "time", text: (point) => moment(point.at) },
    { label: "Waiting", kind: "number", text: (point) => number(point.waiting) },
    { label: "Dead letters", kind: "number", text: (point) => number(point.dead) },
  ], (point) => point.at, () => "No samples yet.");
}

function listen() {
  const on = (id, event, action) => byId(id).addEventListener(event, action);
  on("pause-updates", "click", pauseUpdates);
  on("collector-search", "input", () => {
    collectorsShown = COLLECTORS_AT_A_TIME;
    showCollectors();
  });
  on("collectors-show-more", "click", () => {
    collectorsShown += COLLECTORS_AT_A_TIME;
    showCollectors();
  });
  on("backlog-window", "change", () => refreshHistory().catch(() => refreshAll()));
  on("backlog-collector", "change", drawBacklog);
  on("backlog-numbers", "toggle", drawBacklog);
  on("reasons-state", "change", () => refreshReasons().catch(() => refreshAll()));
  on("filter", "submit", (event) => {
    event.preventDefault();
    applyFilter();
  });
  on("filter", "change", applyFilter);
  on("filter", "reset", (event) => {
    event.preventDefault(); // it would be done after this, and only to what the address said at the start
    fillForm({});
    applyFilter();
  });
  on("page-first", "click", () => turnTo([""]));
  on("page-previous", "click", () => turnTo(pages.slice(0, -1)));
  on("page-next", "click", () => turnTo([...pages, nextPage]));
  on("detail-close", "click", () => byId("detail").close());
  on("operation-cancel", "click", () => byId("operation").close());
  on("operation", "close", () => operationVersion++);
  on("operation-form", "submit", (event) => {
    event.preventDefault();
    carryOut();
  });
  for (const id of ["detail", "operation"]) {
    on(id, "close", () => {
      if (document.activeElement === document.body) {
        byId("batches-heading").focus(); // the row that had the focus is gone
      }
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refreshAll()));
  window.addEventListener("hashchange", () => {
    if (location.hash.includes("=")) { // else the skip link's
      setFilter(filterInAddress());
    }
  });
  new ResizeObserver(drawBacklog).observe(byId("chart"));
  setInterval(showLive, 1000);
}

async function start() {
  try {
    session = await ask("session");
  } catch (problem) {
    failures++;
    sayNoAnswer(problem, MAX_BACKOFF_MILLIS);
    setTimeout(start, MAX_BACKOFF_MILLIS);
    return;
  }
  failures = 0;
  setText(byId("application"), session.application || "");
  byId("access").hidden = maySend();
  build();
  fillForm(filterInAddress());
  filter = readFilter();
  showFilterOperations();
  listen();
  loop();
}

start();
