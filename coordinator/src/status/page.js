// The status page. What comes is shown as text, never as markup; every element is made here, one by one.
"use strict";

const WINDOW_MS = 300_000; // What charts show at most,
const WINDOW_MIN_MS = 60_000; // and at least, when the page has just been opened.
const MINUTE_MS = 60_000; // What shares, rates of hits and refusals are taken over.
const AGAIN_MS = 5_000; // Until a refused stream is asked for again.
const SILENT_MS = 5_000; // Without news for so long, what is shown is old.
const DASH = "–";
const SVG = "http://www.w3.org/2000/svg";
const BADGES = { up: "good", draining: "", degraded: "warn", down: "bad", unknown: "" };
const ORDER = { down: 0, degraded: 1, draining: 2, unknown: 3, up: 4 };
const LEVELS = { fail: ["bad", "Fault"], warn: ["warn", "Warning"], ok: ["", "Note"] };

const at = (id) => document.getElementById(id);

function made(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Leaves alone what has not changed: screen readers and selections are not disturbed.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function dress(element, className) {
  if (element.className !== className) element.className = className;
}

// --- Numbers in words

function scaled(value, step, units) {
  let unit = 0;
  while (value >= step && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return value.toFixed(digits) + units[unit];
}

const bytes = (value) => scaled(value, 1000, [" B", " kB", " MB", " GB", " TB"]) + "/s";
const count = (value) => (value < 10_000 ? String(Math.round(value)) : scaled(value, 1000, ["", "k", "M", "G"]));
const rate = (value) => (value < 10 ? value.toFixed(1) : count(value)) + "/s";
const percent = (part) => (part * 100).toFixed(part < 0.0995 && part > 0 ? 1 : 0) + " %";
const or = (value, shown) => (value === null || value === undefined ? DASH : shown(value));

function span(seconds) {
  const units = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [[length, name], next] = [units[first], units[first + 1]];
  const whole = Math.floor(seconds / length);
  const rest = next && first < 2 ? Math.floor((seconds % length) / next[0]) : 0;
  return whole + " " + name + (rest ? " " + rest + " " + next[1] : "");
}

// --- What was: one series of points by time, and only as long as charts are.

class Series {
  constructor() {
    this.points = [];
  }

  add(time, value) {
    this.points.push({ time, value });
    while (this.points[0].time < time - WINDOW_MS) this.points.shift();
  }

  // How much a total grew in the last minute, or since it is known; what falls began anew.
  growth(time) {
    const recent = this.points.filter((point) => point.time >= time - MINUTE_MS);
    let grown = 0;
    for (let n = 1; n < recent.length; n += 1) grown += Math.max(0, recent[n].value - recent[n - 1].value);
    return recent.length > 1 ? grown : null;
  }

  // A total's rate between the last two looks.
  pace() {
    const [before, last] = this.points.slice(-2);
    if (!last || last.time <= before.time) return null;
    return (Math.max(0, last.value - before.value) * 1000) / (last.time - before.time);
  }
}

// --- Charts

function drawing(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const [area, line] = ["area", "line"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
    return path;
  });
  return { svg, area, line, width, height };
}

let begun = null; // When the first snapshot came, by the coordinator's clock.
const shownSpan = (now) => Math.min(WINDOW_MS, Math.max(WINDOW_MIN_MS, now - begun));

// Time from left to right, now at the right; a gap where nothing was heard.
function draw({ svg, area, line, width, height }, points, now, label) {
  const most = points.reduce((most, { value }) => Math.max(most, value), 0);
  const span = shownSpan(now);
  const x = (time) => (width * (1 - (now - time) / span)).toFixed(1);
  const y = (value) => (height - 1 - (most > 0 ? (value / most) * (height - 3) : 0)).toFixed(1);
  const runs = [];
  let last = -Infinity;
  for (const { time, value } of points) {
    if (time - last > SILENT_MS) runs.push([]);
    runs.at(-1).push([x(time), y(value)]);
    last = time;
  }
  const path = (run) => "M" + run.map((point) => point.join(" ")).join("L");
  line.setAttribute("d", runs.map(path).join(""));
  area.setAttribute("d", runs.map((run) => path(run) + "V" + height + "H" + run[0][0] + "Z").join(""));
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
  return most;
}

const charts = [
  { name: "Sent by edges", shown: bytes, value: (told) => told.totals.rate },
  { name: "Downloads under way", shown: count, value: (told) => told.totals.transfers },
  { name: "Redirects from here", shown: rate, total: (told) => told.totals.picks },
  { name: "Refusals from here", shown: rate, total: (told) => Object.values(told.refusals).reduce((a, b) => a + b, 0) },
].map((chart) => {
  const figure = made("figure");
  const caption = made("figcaption");
  const value = made("strong", "", DASH);
  const most = made("span", "most", "");
  const picture = drawing(300, 60);
  caption.append(made("span", "", chart.name), value);
  figure.append(caption, picture.svg, most);
  at("charts").append(figure);
  return { ...chart, strong: value, most, picture, points: new Series(), totals: new Series() };
});

function showCharts(told) {
  begun ??= told.at;
  const minutes = Math.round(shownSpan(told.at) / MINUTE_MS);
  write(at("charts-title"), minutes === 1 ? "The last minute" : "The last " + minutes + " minutes");
  for (const chart of charts) {
    let value = null;
    if (chart.value) {
      value = chart.value(told);
    } else {
      chart.totals.add(told.at, chart.total(told));
      value = chart.totals.pace();
    }
    if (value !== null) chart.points.add(told.at, value);
    const shown = or(value, chart.shown);
    const most = draw(chart.picture, chart.points.points, told.at, chart.name + ", now " + shown);
    write(chart.strong, shown);
    write(chart.most, "at most " + chart.shown(most));
  }
}

// --- Edges

class Edge {
  constructor(id) {
    this.rates = new Series();
    this.totals = { picks: new Series(), hits: new Series(), misses: new Series() };
    this.row = made("tr");
    this.head = made("th");
    this.head.scope = "row";
    this.url = made("span", "under");
    this.head.append(made("span", "", id), this.url);
    this.badge = made("span", "badge");
    this.why = made("span", "under");
    this.picture = drawing(120, 26);
    this.row.append(this.head);
    this.cells = {};
    for (const column of columns.slice(1)) {
      const cell = made("td", column.className ?? "");
      this.cells[column.key] = cell;
      this.row.append(cell);
    }
    this.cells.state.append(this.badge, this.why);
    this.cells.chart.append(this.picture.svg);
  }

  learn(told, time, allPicks) {
    this.told = told;
    for (const [name, series] of Object.entries(this.totals)) {
      if (told[name] !== null) series.add(time, told[name]);
    }
    if (told.rate !== null) this.rates.add(time, told.rate);
    const [hits, misses] = [this.totals.hits.growth(time), this.totals.misses.growth(time)];
    const recent = (hits ?? 0) + (misses ?? 0);
    const ever = (told.hits ?? 0) + (told.misses ?? 0);
    // Where nothing was asked for within the minute: since the edge began.
    this.hitRate = recent > 0 ? hits / recent : ever > 0 ? told.hits / ever : null;
    const picks = this.totals.picks.growth(time);
    this.part = picks === null || !allPicks ? null : picks / allPicks;
  }

  show(time) {
    const { told, cells } = this;
    write(this.url, told.url);
    write(this.badge, told.drained && told.state !== "down" ? "drained" : told.state);
    dress(this.badge, "badge " + (told.drained ? "" : BADGES[told.state] ?? ""));
    const why = [told.reason, told.url_fault && "URL: " + told.url_fault.fault].filter(Boolean);
    if (told.told_by === "record") why.push("told by its record");
    write(this.why, why.length ? why.join(", ") : "for " + span((time - told.since) / 1000));
    write(cells.zone, told.zone || DASH);
    const label = "Sent lately, now " + or(told.rate, bytes);
    draw(this.picture, this.rates.points, time, label);
    write(cells.rate, or(told.rate, bytes));
    write(cells.load, or(told.transfers, count));
    write(cells.part, or(this.part, percent));
    write(cells.share, percent(told.share));
    write(cells.hits, or(this.hitRate, percent));
    write(cells.stuck, or(told.stuck, count));
    write(cells.version, told.version ?? DASH);
    dress(cells.stuck, told.stuck > 0 ? "number bad" : "number");
  }

  matches(text) {
    const words = [this.told.id, this.told.zone, this.told.state, this.told.drained ? "drained" : ""];
    return words.some((word) => word.toLowerCase().includes(text));
  }
}

const last = (value) => value ?? -1;
const columns = [
  { key: "id", name: "Edge", by: (edge) => edge.told.id },
  { key: "state", name: "State", className: "state", by: (edge) => ORDER[edge.told.state] ?? 9 },
  { key: "zone", name: "Zone", className: "zone", by: (edge) => edge.told.zone },
  { key: "chart", name: "Sent lately" },
  { key: "rate", name: "Sent now", className: "number", by: (edge) => last(edge.told.rate) },
  { key: "load", name: "Downloads", className: "number", by: (edge) => last(edge.told.transfers) },
  { key: "part", name: "Redirects", className: "number", by: (edge) => last(edge.part), hint: "Its part of this coordinator's redirects in the last minute" },
  { key: "share", name: "Files", className: "number", by: (edge) => edge.told.share, hint: "Its part of its zone's files" },
  { key: "hits", name: "Cache hits", className: "number", by: (edge) => last(edge.hitRate), hint: "In the last minute; where nothing was asked for, since it began" },
  { key: "stuck", name: "Stuck", className: "number", by: (edge) => last(edge.told.stuck), hint: "Operations that hang in its store" },
  { key: "version", name: "Version", by: (edge) => edge.told.version ?? "" },
];
const edges = new Map();
const sorting = { key: "id", down: false };
let allPicks = new Series();

for (const column of columns) {
  const head = made("th", column.className === "number" ? "number" : "");
  head.scope = "col";
  if (column.by) {
    const button = made("button", "", column.name);
    button.type = "button";
    if (column.hint) button.title = column.hint;
    button.addEventListener("click", () => {
      sorting.down = sorting.key === column.key ? !sorting.down : column.className === "number";
      sorting.key = column.key;
      arrange();
    });
    head.append(button);
  } else {
    head.textContent = column.name;
  }
  column.head = head;
  at("edges-head").append(head);
}

function arrange() {
  const column = columns.find(({ key }) => key === sorting.key);
  for (const { key, head } of columns) {
    if (key === sorting.key) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  const natural = new Intl.Collator("en", { numeric: true }).compare;
  const by = (a, b) => (typeof a === "number" ? a - b : natural(a, b));
  const sign = sorting.down ? -1 : 1;
  const wanted = at("filter").value.trim().toLowerCase();
  const listed = [...edges.values()]
    .filter((edge) => edge.matches(wanted))
    .sort((a, b) => sign * by(column.by(a), column.by(b)) || natural(a.told.id, b.told.id));
  const body = at("edges-body");
  const rows = listed.map((edge) => edge.row);
  if (rows.length !== body.children.length || rows.some((row, place) => body.children[place] !== row)) {
    body.replaceChildren(...rows);
  }
}

function showEdges(told) {
  const before = new Map([...edges].map(([id, { told }]) => [id, told.state]));
  allPicks.add(told.at, told.totals.picks);
  const picks = allPicks.growth(told.at);
  for (const edge of told.edges) {
    if (!edges.has(edge.id)) edges.set(edge.id, new Edge(edge.id));
    edges.get(edge.id).learn(edge, told.at, picks);
    edges.get(edge.id).show(told.at);
  }
  const shown = new Set(told.edges.map((edge) => edge.id));
  for (const id of edges.keys()) {
    if (!shown.has(id)) edges.delete(id);
  }
  arrange();
  const states = Object.entries(told.totals.states).filter(([, number]) => number > 0);
  write(at("edges-count"), told.totals.edges + (states.length ? ": " : "") + states.map(([state, number]) => number + " " + state).join(", "));
  const hidden = told.totals.edges - told.edges.length;
  write(at("edges-note"), hidden > 0 ? hidden + " more that are well and have less to do are in the sums only; sluicectl edges list has all." : "");
  // Said once, when it changes.
  const news = told.edges.filter(({ id, state }) => before.has(id) && before.get(id) !== state).map(({ id, state }) => id + " is " + state);
  const gone = [...before.keys()].filter((id) => !shown.has(id) && hidden === 0).map((id) => id + " has left");
  if (news.length + gone.length) write(at("said"), [...news, ...gone].slice(0, 5).join("; "));
}

// --- What stands beside

function showFindings(told) {
  const list = at("findings");
  const items = told.findings.map(({ what, level, found, remedy }) => {
    const [className, name] = LEVELS[level] ?? LEVELS.ok;
    const item = made("li");
    const words = made("span", "words", what + ": " + found);
    if (remedy) words.append(made("span", "remedy", remedy));
    item.append(made("span", "badge " + className, name), words);
    return item;
  });
  if (!items.length) items.push(made("li", "calm", "Nothing. All that this coordinator knows of is well."));
  const is = (a, b) => a.isEqualNode(b);
  if (items.length !== list.children.length || items.some((item, place) => !is(item, list.children[place]))) {
    list.replaceChildren(...items);
  }
}

// Rows of texts; the first of each names it.
function showRows(id, rows, none, numbers = []) {
  const body = at(id);
  const made_rows = rows.map((texts) => {
    const row = made("tr");
    texts.forEach((text, place) => {
      const cell = made(place ? "td" : "th", numbers.includes(place) ? "number" : "");
      if (!place) cell.scope = "row";
      if (text instanceof Node) cell.append(text);
      else cell.textContent = text;
      row.append(cell);
    });
    return row;
  });
  if (!rows.length) {
    const row = made("tr");
    const cell = made("td", "empty", none);
    cell.colSpan = 9;
    row.append(cell);
    made_rows.push(row);
  }
  const same = made_rows.length === body.children.length && made_rows.every((row, place) => row.isEqualNode(body.children[place]));
  if (!same) body.replaceChildren(...made_rows);
}

const refusals = new Map();

function showRefusals(told) {
  for (const [reason, number] of Object.entries(told.refusals)) {
    if (!refusals.has(reason)) {
      refusals.set(reason, new Series());
      // What was not there at the last look was nothing then.
      if (heard) refusals.get(reason).add(heard.at, 0);
    }
    refusals.get(reason).add(told.at, number);
  }
  const rows = Object.entries(told.refusals)
    .map(([reason, number]) => ({ reason, number, recent: refusals.get(reason).growth(told.at) ?? 0 }))
    .sort((a, b) => b.recent - a.recent || b.number - a.number)
    .slice(0, 10);
  showRows("refusals", rows.map(({ reason, recent, number }) => [reason, count(recent), count(number)]), "None since this coordinator began.", [1, 2]);
}

function showStores(told) {
  const badge = (good, yes, no) => made("span", "badge " + (good ? "good" : "bad"), good ? yes : no);
  const { etcd, state } = told;
  const rows = [];
  if (etcd) {
    const since = etcd.stale_seconds === null ? "" : "confirmed " + span(Math.round(etcd.stale_seconds)) + " ago";
    rows.push(["etcd", badge(etcd.reached, "answers", "away")]);
    rows.push(["List of edges", since || DASH]);
  } else {
    rows.push(["etcd", "not used"]);
  }
  rows.push([state.kind === "redis" ? "Redis" : "State file", badge(state.well, "answers", "away")]);
  showRows("stores", rows, "");
}

function show(told) {
  const own = told.coordinator;
  if (heard && heard.coordinator.instance !== own.instance) forget();
  write(at("name"), own.id);
  document.title = own.id + " – Sluice";
  write(at("ready"), own.ready ? "ready" : "not ready");
  dress(at("ready"), "badge " + (own.ready ? "good" : "bad"));
  write(at("about"), "version " + own.version + ", up " + span(own.uptime_seconds));
  showFindings(told);
  showCharts(told);
  showEdges(told);
  const others = (told.coordinators ?? []).map(({ id, url, state, version }) => {
    const name = made("span", "", id + (id === own.id ? " (this one)" : ""));
    name.append(made("span", "under", url));
    return [name, state || DASH, version || DASH];
  });
  showRows("coordinators", others, told.etcd ? "etcd has not told." : "Only this one is known: there is no etcd.");
  showStores(told);
  const since = (time) => or(time, (time) => span(Math.max(0, told.at - time) / 1000));
  showRows("keys", told.keys.map((key) => [key.kid, key.kind, key.state, since(key.created), since(key.current_since)]), "There is none.");
  showRefusals(told);
  showRows("hot", told.hot.map(({ tag, rate: pace, edges: shared }) => [made("code", "", tag), rate(pace), String(shared)]), "Nothing is asked for.", [1, 2]);
  heard = told;
}

// Another process's totals begin anew.
function forget() {
  edges.clear();
  refusals.clear();
  allPicks = new Series();
  for (const chart of charts) chart.totals = new Series();
}

// --- The stream

let heard = null;
let stream = null;
let silence = 0;
let again = 0;

function live(text, className) {
  write(at("live"), text);
  dress(at("live"), "badge " + className);
}

function listen() {
  clearTimeout(again);
  stream = new EventSource("status/events");
  stream.addEventListener("message", (event) => {
    live("live", "good");
    clearTimeout(silence);
    silence = setTimeout(() => live("no news", "bad"), SILENT_MS);
    show(JSON.parse(event.data));
  });
  stream.addEventListener("error", () => {
    clearTimeout(silence);
    live("not connected", "bad");
    // Refused, and browsers do not come again by themselves: too many watch, or it is about to stop.
    if (stream?.readyState === EventSource.CLOSED) again = setTimeout(listen, AGAIN_MS);
  });
}

at("pause").addEventListener("click", () => {
  const pauses = stream !== null;
  if (pauses) {
    stream.close();
    stream = null;
    clearTimeout(silence);
    clearTimeout(again);
    live("paused", "warn");
  } else {
    listen();
  }
  at("pause").setAttribute("aria-pressed", String(pauses));
});
at("filter").addEventListener("input", arrange);
arrange();
listen();
