/* The page: what the reader picked, and what is drawn again when that changes. */

const DATA = JSON.parse(document.getElementById("charts").textContent);
const state = { text: "", paradigms: null, family: "", axis: "", label: "", score: "", cost: "", spent: "wall_seconds", order: "effect", other: "", row: "" };

const CHARTS = [
  ["Quality against cost", "Every point is a method with its 95 % interval; the dashed line is the Pareto front of the rows shown: what nothing else equals at a lower cost.",
    drawCost, () => [choice("cost", Object.entries(DATA.costs).filter(([name]) => everyRow().some((row) => row.costs[name] > 0)).map(([name, one]) => [name, one.label]), state.cost, (cost) => pick({ cost }))], () => true],
  ["Intervals over seeds, and effects", "Left: the mean over seeds and items with its 95 % interval, the base's as a dashed line. Right: the paired difference from the base; a filled point stays significant after Holm's correction over the table.",
    drawEffects, () => [choice("order by", ORDERS, state.order, (order) => pick({ order }))], () => true],
  ["Items gained and lost", "Means over seeds, item by item; the items that most methods gained stand left. Changes of less than 1/60 of the score's range count as none. A click on a method shows answers of its first seed.",
    drawItems, () => [], (block) => Object.keys(block.items).length > 0],
  ["Best of k trials", "The validation score, higher is better, to expect of the best of k trials, with one standard deviation.",
    drawTrials, () => [], (block) => block.rows.some((row) => row.trials.length)],
  ["Cost by stage", "Means over seeds. Judging the model (grey) is no part of its cost; stages that cells share count in full for each.",
    drawStages, () => [choice("spent", Object.entries(DATA.spent), state.spent, (spent) => pick({ spent }))], (block) => block.rows.some((row) => row.stages.length)],
];

const everyRow = () => (DATA ? (DATA.blocks || []).flatMap((block) => block.rows) : []);

function shows(row) {
  return (
    (!state.paradigms || state.paradigms.has(row.paradigm)) && (!state.family || row.family === state.family) &&
    (!state.axis || (state.label ? row.axes[state.axis] === state.label : row.axes[state.axis] !== undefined))
  );
}

const named = (row) => `${row.title} ${row.name}`.toLowerCase().includes(state.text);

function pick(change) {
  Object.assign(state, change);
  update();
}

function update() {
  const rows = new Map(everyRow().map((row) => [row.name, row]));
  let seen = 0, all = 0;
  for (const [i, table] of document.querySelectorAll("figure.grid table").entries()) {
    thin(table, (line) => {
      const row = rows.get(line.dataset.key);
      const found = row?.scores ? named(row) : line.textContent.toLowerCase().includes(state.text);
      const shown = found && (!row || shows(row));
      if (i === 0) [seen, all] = [seen + shown, all + 1];
      return shown;
    });
  }
  document.getElementById("count").textContent = `${seen} of ${all} rows`;
  for (const place of document.querySelectorAll("div.charts")) drawCharts(place, DATA.blocks[place.dataset.block]);
}

function drawCharts(place, block) {
  const figures = CHARTS.filter(([, , , , there]) => block.columns.length && there(block)).map(([title, said, drawn, tools]) => {
    const own = block.columns.some((one) => one.name === state.score) ? state : { ...state, score: block.columns[0].name };
    const name = drawn === drawStages || drawn === drawTrials ? title : `${title}: ${short(own.score)}`;
    return make("figure", { id: `${title.split(" ")[0].toLowerCase().replace(/\W/g, "")}${place.dataset.block}` },
      make("figcaption", {}, name, ...tools()), make("p", { class: "say" }, said), make("div", { class: "plot" }, drawn(block, block.rows.filter((row) => shows(row) && named(row)), own)));
  });
  place.replaceChildren(...figures);
}

/** Colour the differences that are beyond doubt. */
function colourEffects() {
  for (const grid of document.querySelectorAll("figure.grid")) {
    if (!DATA?.blocks || !grid.querySelector("figcaption").textContent.startsWith("Difference from the base")) continue;
    const place = grid.closest("section").querySelector("div.charts");
    const block = DATA.blocks[place.dataset.block];
    const places = new Map([...grid.querySelectorAll("thead th")].map((head) => [head.dataset.score, head.cellIndex]));
    for (const line of grid.querySelectorAll("tr[data-key]")) {
      const row = block.rows.find((one) => one.name === line.dataset.key);
      for (const column of block.columns.filter((one) => places.has(one.name))) {
        const found = row?.effects[column.name];
        if (found && found[3] !== null && found[3] < 0.05) line.cells[places.get(column.name)].classList.add(found[0] > 0 === column.up ? "better" : "worse");
      }
    }
  }
}

function chip(paradigm) {
  const dot = make("i");
  dot.style.background = COLOURS[paradigm] || OTHER;
  const made = make("button", { class: "chip", "aria-pressed": "true", type: "button" }, dot, DATA.paradigms[paradigm] || paradigm || "Others");
  made.addEventListener("click", () => {
    made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true"));
    const all = [...document.querySelectorAll(".chip")];
    state.paradigms = all.every((one) => one.getAttribute("aria-pressed") === "true") ? null : new Set(all.filter((one) => one.getAttribute("aria-pressed") === "true").map((one) => one.paradigm));
    update();
  });
  made.paradigm = paradigm;
  return made;
}

function labelsOf(axis) {
  return [...new Set(everyRow().map((row) => row.axes[axis]).filter((one) => one !== undefined))].sort();
}

function axisPicker() {
  const axes = [...new Set(everyRow().flatMap((row) => Object.keys(row.axes)))].sort();
  const place = make("span", { class: "row" });
  const refresh = () => {
    const parts = [choice("axis", [["", "any"], ...axes.map((axis) => [axis, axis])], state.axis, (axis) => { pick({ axis, label: "" }); refresh(); })];
    if (state.axis) parts.push(choice("is", [["", "labelled"], ...labelsOf(state.axis).map((label) => [label, label])], state.label, (label) => pick({ label })));
    place.replaceChildren(...parts);
  };
  refresh();
  return place;
}

function tools() {
  const search = make("input", { type: "search", placeholder: "Find a row", "aria-label": "Find a row" });
  search.addEventListener("input", () => pick({ text: search.value.trim().toLowerCase() }));
  const count = make("span", { id: "count", class: "end", "aria-live": "polite" });
  const rows = everyRow();
  const families = [...new Set(rows.map((row) => row.family).filter(Boolean))].sort();
  const bar = [search];
  if (families.length) bar.push(choice("family", [["", "any"], ...families.map((one) => [one, one.replaceAll("_", " ")])], "", (family) => pick({ family })));
  if (rows.some((row) => Object.keys(row.axes).length)) bar.push(axisPicker());
  const columns = [...new Set((DATA?.blocks || []).flatMap((block) => (block.columns || []).map((column) => column.name)))];
  if (columns.length) bar.push(choice("score", columns.map((name) => [name, short(name)]), state.score, (score) => pick({ score })));
  const made = [make("div", { class: "row" }, ...bar, count)];
  const paradigms = [...new Set(rows.map((row) => row.paradigm))];
  if (paradigms.length > 1) made.push(make("div", { class: "row" }, ...paradigms.map(chip)));
  const nav = document.getElementById("tools");
  nav.replaceChildren(...made);
  nav.hidden = false;
}

/** Where to jump to. */
function links() {
  const captions = [...document.querySelectorAll("section.part figure > figcaption"), ...document.querySelectorAll("#reading h2")];
  const row = captions.map((one) => make("a", { href: `#${one.parentElement.id}` }, one.firstChild.textContent.split(":")[0]));
  document.querySelector("header").append(make("div", { class: "links" }, ...row));
}

function start() {
  if (DATA?.blocks?.length) {
    state.score = DATA.blocks[0].columns?.[0]?.name || "";
    state.cost = DATA.against;
  }
  readyGrids();
  tools();
  colourEffects();
  update();
  links();
}

start();
