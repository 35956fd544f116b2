"use strict";
// Faces are drawn a few at a time, as the reader comes near them: what the page costs does not
// depend on how many there are.
const STEP = 24, AHEAD_PX = 1500, NBSP = "\u00a0";
const STATUS = {
  "saved": "within tolerance", "above-tolerance": "above tolerance",
  "no-face": "no face", "failed": "failed",
};
const $ = (id) => document.getElementById(id);
const runs = JSON.parse($("run-data").textContent);
const faces = JSON.parse($("face-data").textContent);
$("face-data").textContent = "";  // the text is not needed twice

for (const face of faces) {
  const errors = (face.candidates || []).map((c) => c[1]).filter((error) => error !== null);
  face.error = errors.length ? Math.min(...errors) : null;
}

const number = (n) => n.toLocaleString("en");
const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
const short = (error) => Number(error.toPrecision(3)).toString();
const median = (sorted) => sorted[Math.floor((sorted.length - 1) / 2)];

// The address of a face's picture; a picture inside the page is one already.
function address(face, link) {
  if (link.startsWith("data:")) return link;
  const path = link.includes("/") ? link : `${face.folder}/${link}`;
  return path.split("/").map((part) => encodeURIComponent(part)).join("/");
}

function show(img, face, link, alt) {
  img.src = address(face, link);
  img.alt = alt;
}

// ---- the first screen: totals, filters, runs

const counts = { all: faces.length };
for (const face of faces) counts[face.status] = (counts[face.status] || 0) + 1;

function drawTotals() {
  const candidates = faces.flatMap((face) => face.candidates || []);
  const errors = candidates.map((c) => c[1]).filter((e) => e !== null).sort((a, b) => a - b);
  const rows = [
    [number(faces.filter((face) => face.error !== null).length), "faces"],
    [number(errors.length), "candidates"],
    [number(candidates.filter((c) => c[3]).length), "of them within the tolerance"],
  ];
  if (errors.length) {
    rows.push([short(median(errors)), "median error"]);
    rows.push([short(errors[errors.length - 1]), "largest error"]);
  }
  for (const [status, words] of [["no-face", "without a face"], ["failed", "failed"]]) {
    if (counts[status]) rows.push([number(counts[status]), words]);
  }
  for (const [value, words] of rows) {
    const row = document.createElement("div");
    const [term, figure] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = words;
    figure.textContent = value;
    row.append(term, figure);
    $("totals").append(row);
  }
}

const state = { status: "all", sort: "name", find: "" };
const FILTERS = ["all", ...Object.keys(STATUS).filter((status) => counts[status])];

function drawFilters() {
  for (const status of FILTERS) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.status = status;
    button.append(status === "all" ? "all" : STATUS[status], " ");
    const figure = document.createElement("span");
    figure.textContent = number(counts[status]);
    button.append(figure);
    button.addEventListener("click", () => { state.status = status; redraw(); });
    $("filters").append(button);
  }
}

function drawRuns() {
  for (const run of runs) {
    const item = document.createElement("li");
    const folder = run.folder === "." ? "" : `${run.folder}: `;
    item.textContent = `${folder}generator ${run.generator} (SHA-256 ${run.sha256.slice(0, 16)}…), ` +
      `seed ${run.seed}, tolerance ${run.tolerance}, ${run.kernel} downscaling`;
    $("runs").append(item);
  }
}

// ---- the list

let chosen = [];
let drawn = 0;

const ORDERS = {
  name: null,  // the order of the data
  worst: (a, b) => (b.error ?? -1) - (a.error ?? -1),
  best: (a, b) => (a.error ?? Infinity) - (b.error ?? Infinity) || 0,
};

function redraw() {
  const find = state.find.toLowerCase();
  chosen = faces.filter((face) =>
    (state.status === "all" || face.status === state.status) &&
    (!find || face.name.toLowerCase().includes(find)));
  if (ORDERS[state.sort]) chosen.sort(ORDERS[state.sort]);
  for (const button of $("filters").children) {
    button.setAttribute("aria-pressed", String(button.dataset.status === state.status));
  }
  $("sort").value = state.sort;
  $("faces").replaceChildren();
  drawn = 0;
  const isAll = chosen.length === faces.length;
  $("count").textContent = isAll ? "" : `${number(chosen.length)} of ${number(faces.length)} shown`;
  if (!chosen.length) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = faces.length ? "No face fits this choice." : "This run has no faces.";
    $("faces").append(empty);
  }
  fill();
}

function fill() {
  const edge = window.innerHeight + AHEAD_PX;
  while (drawn < chosen.length && $("more").getBoundingClientRect().top < edge) drawMore();
}

function drawMore() {
  const until = Math.min(drawn + STEP, chosen.length);
  const fragment = document.createDocumentFragment();
  for (; drawn < until; drawn++) fragment.append(cardOf(chosen[drawn]));
  $("faces").append(fragment);
}

// ---- one face

function cardOf(face) {
  const run = runs[face.run];
  const card = $("face").content.cloneNode(true).querySelector("article");
  card.classList.add(face.status);
  const shown = (face.candidates || []).filter((c) => c[4]);
  card.querySelector("h3").textContent = face.name;
  card.querySelector(".status").textContent = STATUS[face.status];
  card.querySelector(".meta").textContent = metaOf(face, run);
  card.setAttribute("aria-label", `${face.name}, ${STATUS[face.status]}`);
  card.querySelector(".reason").textContent = face.reason || "";
  if (shown.length && face.input) {
    for (const c of face.candidates) {
      card.querySelector(".candidates").append(candidateOf(face, run, c, card));
    }
    if (face.map) card.querySelector(".candidates").append(mapOf(face));
    setUpSlider(face, card);
    choose(face, card, shown.reduce((a, b) => (b[1] < a[1] ? b : a)));
  } else {
    card.classList.add("bare");
    if (!face.reason) {
      card.querySelector(".reason").textContent =
        "Its pictures are not in the folder any more; the same pulse upscale makes them again.";
    }
  }
  drawCommand(face, run, card);
  return card;
}

function metaOf(face, run) {
  const parts = [];
  if (face.faces) parts.push(`face ${face.face} of ${face.faces}`);
  if (face.px) parts.push(`input ${face.px} × ${face.px} pixels`);
  if (face.error !== null) parts.push(`smallest error ${short(face.error)}`);
  if (!face.earlier && face.px) parts.push(`seed ${run.seed}`);
  return parts.map((part) => part.replaceAll(" ", NBSP)).join(" · ");
}

function candidateOf(face, run, [n, error, steps, isMet, link], card) {
  const item = $("candidate").content.cloneNode(true).querySelector("li");
  const [image, input, again] = item.querySelectorAll("img");
  const button = item.querySelector("button");
  const caption = item.querySelector(".caption");
  if (!link) {
    button.remove();
    item.querySelector(".pair").remove();
    caption.innerHTML = '<span class="bad"></span>';
    caption.firstChild.textContent =
      error === null ? `candidate ${n} failed` : `candidate ${n} is not in the folder any more`;
    return item;
  }
  show(image, face, link, `Candidate ${n} for ${face.name}: an imagined face`);
  show(input, face, face.input, `The input, ${face.px} by ${face.px} pixels`);
  if (face.again) {
    show(again, face, face.again, `Candidate ${n} downscaled to ${face.px} by ${face.px} pixels`);
    again.style.left = `${-100 * (n - 1)}%`;
  } else {
    item.querySelector(".pair").remove();
  }
  button.dataset.number = n;
  button.setAttribute("aria-label", `Show candidate ${n} in the slider`);
  button.addEventListener("click", () => choose(face, card, face.candidates.find((c) => c[0] === n)));
  const fit = document.createElement("small");
  const verdict = isMet ? "within" : "above";
  fit.textContent = `${verdict} ${face.earlier ? "the tolerance" : run.tolerance}`;
  if (!isMet) fit.className = "above";
  const first = document.createElement("span");
  first.textContent = `${n} · error ${short(error)}`;
  first.title = `${error}, after ${plural(steps, "step")}`;
  caption.append(first, fit);
  return item;
}

function mapOf(face) {
  const item = $("map").content.cloneNode(true).querySelector("li");
  show(item.querySelector("img"), face, face.map,
    `Map of where the candidates for ${face.name} disagree: bright where they differ most`);
  return item;
}

function setUpSlider(face, card) {
  const input = card.querySelector("input[type=range]");
  input.setAttribute("aria-label", `How much of the input of ${face.name} lies over the candidate`);
  input.addEventListener("input", () => {
    card.querySelector(".slider").style.setProperty("--at", `${input.value}%`);
  });
  show(card.querySelector(".before"), face, face.input,
    `The input, ${face.px} by ${face.px} pixels, enlarged as pixels`);
}

function choose(face, card, [n, , , , link]) {
  show(card.querySelector(".after"), face, link, `Candidate ${n} for ${face.name}: an imagined face`);
  card.querySelector(".tag.right").textContent = `candidate ${n}`;
  for (const button of card.querySelectorAll(".candidates button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.number) === n));
  }
}

// A text as one word of a shell.
const quoted = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;

function drawCommand(face, run, card) {
  if (!face.candidates) {
    card.querySelector("details").remove();
    return;
  }
  const box = card.querySelector(".again");
  const say = (text, tag = "p") => {
    const element = document.createElement(tag);
    element.textContent = text;
    box.append(element);
  };
  if (face.earlier) {
    say("It was made with other settings than those that run.json tells of now; the pictures " +
      "carry theirs inside.");
  } else {
    say(`pulse upscale ${quoted(face.source)} ${run.options} -o again`, "pre");
    if (run.needsFile) {
      say(`For ${run.generator} give the path of the weights file, SHA-256 ${run.sha256}.`);
    }
  }
  if (face.notes) say(`Noted: ${face.notes.join("; ")}.`);
}

// ---- keys

const cards = () => [...$("faces").querySelectorAll("article")];
const current = () => document.activeElement.closest?.("article");

function step(by) {
  const all = cards();
  const at = all.indexOf(current());
  if (by > 0 && at === all.length - 1) drawMore();
  const next = cards()[at < 0 ? 0 : Math.max(0, at + by)];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
}

function slide(by) {
  const input = current()?.querySelector("input[type=range]");
  if (!input) return;
  input.value = Number(input.value) + by;
  input.dispatchEvent(new Event("input"));
}

const next = (list, item) => list[(list.indexOf(item) + 1) % list.length];

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  f: () => { state.status = next(FILTERS, state.status); redraw(); },
  s: () => { state.sort = next(Object.keys(ORDERS), state.sort); redraw(); },
  "/": () => $("find").focus(),
  "?": () => $("help").click(),
  ArrowLeft: () => slide(-5),
  ArrowRight: () => slide(5),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { tagName, type } = event.target;
  if (event.target.id === "find" && event.key === "Escape") event.target.blur();
  if (tagName === "SELECT" || (tagName === "INPUT" && type !== "range")) return;
  if (type === "range" && event.key.startsWith("Arrow")) return;  // it moves by itself
  if (/^[1-9]$/.test(event.key)) {
    current()?.querySelector(`.candidates button[data-number="${event.key}"]`)?.click();
  } else if (KEYS[event.key]) {
    KEYS[event.key]();
    if (!event.key.startsWith("Arrow") || current()) event.preventDefault();
  }
});

$("sort").addEventListener("change", (event) => { state.sort = event.target.value; redraw(); });
$("find").addEventListener("input", (event) => { state.find = event.target.value; redraw(); });
$("help").addEventListener("click", () => {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", String(!$("keys").hidden));
});

drawTotals();
drawFilters();
drawRuns();
redraw();
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) fill();
}, { rootMargin: `${AHEAD_PX}px` }).observe($("more"));
