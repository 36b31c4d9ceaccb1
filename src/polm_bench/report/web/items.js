/* Items gained and lost: a line per method, a stroke per item. */

const LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LEVEL = new Map([...LETTERS].map((letter, level) => [letter, level]));
const STEPS = 60;

/** Changes of a row's items against another's, in levels, positive is better; what one of them lacks is no change. */
function changes(own, other, up) {
  const found = new Int8Array(own.length);
  for (let i = 0; i < own.length; i++) {
    const [a, b] = [LEVEL.get(own[i]), LEVEL.get(other[i])];
    if (a !== undefined && b !== undefined) found[i] = up ? a - b : b - a;
  }
  return found;
}

function drawItems(block, rows, state) {
  const found = block.items[state.score];
  if (!found) return make("p", { class: "say" }, "This score has no items: it is a figure of the whole set.");
  const column = block.columns.find((one) => one.name === state.score);
  const known = block.rows.filter((row) => found.rows[row.name]);
  const base = known.find((row) => row.name === state.other) || known.find((row) => row.name.startsWith("base")) || known[0];
  const told = rows
    .filter((row) => found.rows[row.name] && row !== base)
    .map((row) => ({ row, change: changes(found.rows[row.name], found.rows[base.name], column.up) }))
    .map((one) => ({ ...one, gained: one.change.filter((value) => value > 0).length, lost: one.change.filter((value) => value < 0).length }));
  const order = [...found.ids.keys()];
  const sums = order.map((i) => told.reduce((sum, one) => sum + one.change[i], 0));
  order.sort((a, b) => sums[b] - sums[a]);
  const body = make("tbody", {}, ...told.map((one) => itemLine(one, order, block, state)));
  const heads = [["left", "method"], ["left", `${found.ids.length} items: blue gained, red lost, stronger by more`], ["", "gained"], ["", "lost"]];
  const table = make("table", { class: "items" }, make("thead", {}, make("tr", {}, ...heads.map(([left, text]) => make("th", left ? { class: left } : {}, text)))), body);
  const chosen = told.find((one) => one.row.name === state.row) || told.toSorted((a, b) => b.gained + b.lost - a.gained - a.lost)[0];
  const answers = make("div", { class: "answers" });
  const picker = choice("against", known.map((row) => [row.name, row.title]), base.name, (name) => pick({ other: name }));
  if (chosen) showAnswers(block, chosen.row, state.score, body, answers);
  body.addEventListener("click", (event) => {
    const name = event.target.closest("tr").dataset.row;
    showAnswers(block, block.rows.find((row) => row.name === name), state.score, body, answers);
  });
  return make("div", {}, make("p", { class: "say" }, picker), make("div", { class: "scroll" }, table), answers);
}

function itemLine(one, order) {
  const strip = make("canvas", { width: order.length, height: 1, "aria-hidden": "true" });
  const pen = strip.getContext("2d");
  const image = pen.createImageData(order.length, 1);
  order.forEach((item, i) => {
    const share = Math.min(1, Math.abs(one.change[item]) / STEPS * 0.8 + 0.2);
    const tint = one.change[item] > 0 ? [44, 106, 160] : one.change[item] < 0 ? [180, 83, 42] : [238, 240, 242];
    const mixed = one.change[item] ? tint.map((part) => 255 - (255 - part) * share) : tint;
    image.data.set([...mixed, 255], 4 * i);
  });
  pen.putImageData(image, 0, 0);
  return make(
    "tr", { "data-row": one.row.name, "aria-selected": "false" },
    make("th", { scope: "row", class: "left" }, one.row.title), make("td", { class: "strip" }, strip),
    make("td", { class: "gain" }, String(one.gained)), make("td", { class: "loss" }, String(one.lost)),
  );
}

/** The answers of a row that changed most from the base's, both beside each other. */
function showAnswers(block, row, score, body, into) {
  for (const line of body.rows) line.setAttribute("aria-selected", String(line.dataset.row === row.name));
  const told = (block.changed[row.name] || {})[score] || [];
  const cards = told.map((one) => {
    const said = `${one.item}: ${number(one.scores[0])} → ${number(one.scores[1])}`;
    return make(
      "div", { class: one.gained ? "answer" : "answer loss" },
      make("p", {}, `${row.title} ${one.gained ? "gained" : "lost"} ${said}`),
      make("p", {}, "base"), make("pre", {}, one.base || "(nothing)"), make("p", {}, row.title), make("pre", {}, one.own || "(nothing)"),
    );
  });
  into.replaceChildren(...(cards.length ? cards : [make("p", { class: "say" }, `${row.title}: no answers that differ from the base's.`)]));
}
