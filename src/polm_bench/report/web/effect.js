/* Scores over seeds beside the differences from the base; and what trials of tuning bought. */

const ORDERS = [["effect", "difference"], ["score", "score"], ["table", "as in the table"]];

function ordered(rows, column, state) {
  const sign = column.up ? -1 : 1;
  const of = { effect: (row) => (row.effects[column.name] || [0])[0], score: (row) => row.scores[column.name][0] }[state.order];
  return of ? [...rows].sort((a, b) => sign * (of(a) - of(b))) : rows;
}

function drawEffects(block, rows, state) {
  const column = block.columns.find((one) => one.name === state.score);
  const told = ordered(rows.filter((row) => row.scores[state.score]), column, state);
  if (!told.length) return make("p", { class: "say" }, "No row has this score.");
  const [width, label, gap, line, top] = [1180, 250, 70, 21, 26];
  const panel = (width - label - gap - 110) / 2;
  const second = label + panel + gap;
  const height = top + told.length * line + 42;
  const svg = canvas(width, height, `${column.name} with intervals, and differences from the base`);
  const x = linear(...span(told.flatMap((row) => [...row.scores[state.score].slice(0, 3), ...row.seeds[state.score].map(([, value]) => value)])), label, label + panel);
  const gaps = told.flatMap((row) => (row.effects[state.score] || []).slice(0, 3));
  const d = linear(...span([0, ...gaps]), second, second + panel);
  axis(svg, x, label, panel, top, height, "score; small rings: seeds");
  axis(svg, d, second, panel, top, height, `difference from the base, ${better(column)}`);
  const base = block.rows.find((row) => row.scores[state.score] && !row.effects[state.score]);
  if (base) svg.append(draw("line", { class: "front", x1: x.at(base.scores[state.score][0]), x2: x.at(base.scores[state.score][0]), y1: top, y2: height - 40 }));
  svg.append(draw("line", { class: "zero", x1: d.at(0), x2: d.at(0), y1: top, y2: height - 40 }));
  svg.append(draw("text", { class: "axis", x: width - 4, y: 16, "text-anchor": "end" }, "p (Holm)"));
  told.forEach((row, i) => effectLine(svg, row, state.score, top + i * line + line / 2, { label, width, x, d, line }));
  return svg;
}

function axis(svg, scale, from, wide, top, height, text) {
  for (const mark of scale.ticks(5)) {
    svg.append(draw("line", { class: "rule", x1: scale.at(mark), x2: scale.at(mark), y1: top, y2: height - 40 }));
    svg.append(draw("text", { class: "tick", x: scale.at(mark), y: height - 24, "text-anchor": "middle" }, String(mark)));
  }
  svg.append(draw("text", { class: "axis", x: from + wide, y: height - 6, "text-anchor": "end" }, text));
}

function effectLine(svg, row, score, y, { label, width, x, d, line }) {
  const [value, low, high] = row.scores[score];
  const tint = colour(row);
  const told = low === null ? "" : ` [${number(low)}, ${number(high)}]`;
  const mark = draw("g", { class: "mark" }, hint(`${row.title}: ${number(value)}${told}`));
  mark.append(draw("rect", { class: "hover", x: 0, y: y - line / 2, width, height: line, fill: "transparent" }));
  mark.append(draw("text", { x: label - 12, y: y + 4, "text-anchor": "end" }, row.title));
  if (low !== null) mark.append(draw("line", { class: "bound", x1: x.at(low), x2: x.at(high), y1: y, y2: y, stroke: tint, "stroke-width": 1.5 }));
  for (const [seed, one] of row.seeds[score]) mark.append(draw("circle", { cx: x.at(one), cy: y, r: 2.6, fill: "#fff", stroke: tint, "stroke-opacity": 0.8 }, hint(`${row.title}, seed ${seed}: ${number(one)}`)));
  mark.append(draw("circle", { cx: x.at(value), cy: y, r: 4, fill: tint, stroke: "#fff" }));
  const found = row.effects[score];
  if (found) {
    const [mean, from, to, p] = found;
    const sure = p !== null && p < 0.05;
    mark.append(hint(`${row.title}: ${number(value)}${told}\n${number(mean, true)} [${number(from, true)}, ${number(to, true)}]`));
    mark.firstChild.remove();
    mark.append(draw("line", { class: "bound", x1: d.at(from), x2: d.at(to), y1: y, y2: y, stroke: tint, "stroke-width": 1.5 }));
    mark.append(draw("circle", { cx: d.at(mean), cy: y, r: 4, fill: sure ? tint : "#fff", stroke: tint, "stroke-width": 1.5 }));
    const said = p === null ? "" : p < 0.001 ? "< 0.001" : p.toFixed(3);
    mark.append(draw("text", { class: "tick", x: width - 4, y: y + 4, "text-anchor": "end" }, said));
  }
  svg.append(mark);
}

/** The best validation score to expect of k trials, with a band of one standard deviation. */
function drawTrials(block, rows) {
  const told = rows.filter((row) => row.trials.length);
  if (!told.length) return make("p", { class: "say" }, "None of the rows shown was tuned.");
  const [width, height, left, right, top, bottom] = [1180, 380, 64, 200, 12, 44];
  const svg = canvas(width, height, "best validation score to expect of k trials");
  const points = told.flatMap((row) => row.trials);
  const x = linear(1, Math.max(...points.map(([k]) => k), 2), left, width - right);
  const y = linear(...span(points.flatMap(([, mean, spread]) => [mean - spread, mean + spread])), height - bottom, top);
  for (const mark of y.ticks(6)) {
    svg.append(draw("line", { class: "rule", x1: left, x2: width - right, y1: y.at(mark), y2: y.at(mark) }));
    svg.append(draw("text", { class: "tick", x: left - 8, y: y.at(mark) + 4, "text-anchor": "end" }, String(mark)));
  }
  for (const k of new Set(points.map(([one]) => one))) svg.append(draw("text", { class: "tick", x: x.at(k), y: height - 24, "text-anchor": "middle" }, String(k)));
  svg.append(draw("text", { class: "axis", x: width - right, y: height - 6, "text-anchor": "end" }, "trials"));
  let last = -Infinity;
  const ends = told.map((row, i) => [row, KINDS[i % KINDS.length]]).sort(([a], [b]) => b.trials.at(-1)[1] - a.trials.at(-1)[1]);
  for (const [row, tint] of ends) {
    const line = row.trials.map(([k, mean]) => `${x.at(k)},${y.at(mean)}`);
    const upper = row.trials.map(([k, mean, spread]) => `${x.at(k)},${y.at(mean + spread)}`);
    const lower = row.trials.map(([k, mean, spread]) => `${x.at(k)},${y.at(mean - spread)}`).reverse();
    svg.append(draw("polygon", { points: [...upper, ...lower].join(" "), fill: tint, "fill-opacity": 0.12 }));
    svg.append(draw("polyline", { points: line.join(" "), fill: "none", stroke: tint, "stroke-width": 2 }, hint(row.title)));
    last = Math.max(y.at(row.trials.at(-1)[1]), last + 15);
    svg.append(draw("text", { x: x.at(row.trials.at(-1)[0]) + 10, y: last + 4, style: `fill:${tint}` }, row.title));
  }
  return svg;
}
