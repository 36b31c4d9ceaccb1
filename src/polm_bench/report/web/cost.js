/* Quality against a cost, with the Pareto front; and where the cost was spent. */

/** Points that no other equals at a lower cost or beats at no higher one. */
function frontOf(points, sign, up) {
  const worse = (a, b) => b.cost * sign <= a.cost * sign && b.value * up >= a.value * up && (b.cost !== a.cost || b.value !== a.value);
  return points.filter((one) => !points.some((other) => worse(one, other))).sort((a, b) => a.cost - b.cost);
}

function drawCost(block, rows, state) {
  const column = block.columns.find((one) => one.name === state.score);
  const known = DATA.costs[state.cost];
  const points = rows
    .filter((row) => row.scores[state.score] && row.costs[state.cost] !== undefined)
    .map((row) => ({ row, cost: row.costs[state.cost], value: row.scores[state.score][0], bounds: row.scores[state.score].slice(1, 3) }));
  if (!points.length) return make("p", { class: "say" }, "No row has both this score and this cost.");
  const [width, height, left, right, top, bottom] = [1180, 480, 64, 24, 14, 50];
  const svg = canvas(width, height, `${column.name} against ${known.label}`);
  const x = costScale(points.map((one) => one.cost), left + 8, width - right - 8);
  const y = linear(...span(points.flatMap((one) => [one.value, ...one.bounds])), height - bottom, top);
  for (const mark of y.ticks(6)) {
    svg.append(draw("line", { class: "rule", x1: left, x2: width - right, y1: y.at(mark), y2: y.at(mark) }));
    svg.append(draw("text", { class: "tick", x: left - 8, y: y.at(mark) + 4, "text-anchor": "end" }, String(mark)));
  }
  for (const mark of x.ticks(7)) {
    svg.append(draw("line", { class: "zero", x1: x.at(mark), x2: x.at(mark), y1: height - bottom, y2: height - bottom + 5 }));
    svg.append(draw("text", { class: "tick", x: x.at(mark), y: height - bottom + 18, "text-anchor": "middle" }, costText(state.cost, mark)));
  }
  svg.append(draw("line", { class: "zero", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  if (x.gap) svg.append(draw("path", { class: "zero", fill: "none", d: `M${x.gap - 5} ${height - bottom + 5}l4 -10m4 10l4 -10` }));
  svg.append(draw("text", { class: "axis", x: width - right, y: height - 8, "text-anchor": "end" }, `${known.label}${known.up ? ", higher is better" : ""}`));
  svg.append(draw("text", { class: "axis", x: 14, y: top, "text-anchor": "end", transform: `rotate(-90 14 ${top})` }, `${column.name}, ${better(column)}`));
  const front = frontOf(points, known.up ? -1 : 1, column.up ? 1 : -1);
  let path = "";
  for (const [i, one] of front.entries()) {
    const [px, py] = [x.at(one.cost), y.at(one.value)];
    path += i ? (known.up ? `V${py}H${px}` : `H${px}V${py}`) : `M${px} ${py}`;
  }
  svg.append(draw("path", { class: "front", d: path }));
  const taken = points.map((one) => [x.at(one.cost) - 5, y.at(one.value) - 5, 10, 10]);
  for (const one of [...points].sort((a, b) => front.includes(a) - front.includes(b))) svg.append(pointOf(one, x, y, front.includes(one)));
  const few = points.length <= 14;
  for (const one of few ? [...front, ...points.filter((other) => !front.includes(other))] : front) {
    const label = labelOf(one, x, y, taken, width - right, top, front.includes(one));
    if (label) svg.append(label);
  }
  return svg;
}

function pointOf(one, x, y, first) {
  const [px, [low, high]] = [x.at(one.cost), one.bounds];
  const told = low === null ? "" : ` [${number(low)}, ${number(high)}]`;
  const mark = draw("g", { class: "mark" }, hint(`${one.row.title}\n${number(one.value)}${told}\n${costText(state.cost, one.cost)}`));
  if (low !== null) mark.append(draw("line", { class: "bound", x1: px, x2: px, y1: y.at(low), y2: y.at(high), stroke: colour(one.row), "stroke-opacity": first ? 0.7 : 0.35 }));
  mark.append(draw("circle", { cx: px, cy: y.at(one.value), r: first ? 5.5 : 4, fill: colour(one.row), "fill-opacity": first ? 1 : 0.75, stroke: "#fff" }));
  return mark;
}

/** A point's name where nothing stands yet; where there is no such place, null, or beside the point all the same if it must be named. */
function labelOf(one, x, y, taken, edge, top, must) {
  const wide = one.row.title.length * 6.3 + 4;
  const [px, py] = [x.at(one.cost), y.at(one.value)];
  const places = [[9, 4, 0], [-9, 4, 1], [9, -9, 0], [9, 16, 0], [-9, -9, 1], [-9, 16, 1], [9, -22, 0], [9, 29, 0], [-9, -22, 1], [-9, 29, 1], [9, 44, 0], [-9, 44, 1]]
    .map(([dx, dy, end]) => ({ at: { x: px + dx, y: py + dy, "text-anchor": end ? "end" : "start" }, box: [end ? px + dx - wide : px + dx, py + dy - 11, wide, 14] }))
    .filter(({ box }) => box[0] > 60 && box[0] + wide < edge && box[1] > top - 8);
  const free = places.find(({ box }) => !taken.some((other) => crosses(box, other))) || (must ? places[0] : null);
  if (!free) return null;
  taken.push(free.box);
  return draw("text", { class: "label", ...free.at }, one.row.title);
}

const crosses = (a, b) => a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];

/** Stacked bars: what each kind of stage spent. */
function drawStages(block, rows, state) {
  const told = rows.map((row) => ({ row, stages: row.stages.filter((stage) => stage[state.spent] > 0) })).filter((one) => one.stages.length);
  if (!told.length) return make("p", { class: "say" }, "Nothing of it was spent.");
  const kinds = [...new Set(block.rows.flatMap((row) => row.stages.map((stage) => stage.kind)))].filter((kind) => kind !== "evaluation");
  const tint = (kind) => (kind === "evaluation" ? "#d3d8dd" : KINDS[kinds.indexOf(kind) % KINDS.length]);
  const used = new Set(told.flatMap((one) => one.stages.map((stage) => stage.kind)));
  const [width, left, line] = [1180, 250, 19];
  const height = told.length * line + 34;
  const svg = canvas(width, height, `${DATA.spent[state.spent]} by stage`);
  const whole = (one) => one.stages.reduce((sum, stage) => sum + stage[state.spent], 0);
  const x = linear(0, Math.max(...told.map(whole)) * 1.02, left, width - 90);
  for (const mark of x.ticks(6)) {
    svg.append(draw("line", { class: "rule", x1: x.at(mark), x2: x.at(mark), y1: 0, y2: height - 26 }));
    svg.append(draw("text", { class: "tick", x: x.at(mark), y: height - 10, "text-anchor": "middle" }, costText(state.spent, mark)));
  }
  told.forEach((one, i) => {
    let from = 0;
    svg.append(draw("text", { x: left - 10, y: i * line + 14, "text-anchor": "end" }, one.row.title));
    for (const stage of one.stages) {
      const bar = { x: x.at(from), y: i * line + 3, width: Math.max(0.5, x.at(from + stage[state.spent]) - x.at(from)), height: line - 6, fill: tint(stage.kind), stroke: "#fff", "stroke-width": 0.6 };
      svg.append(draw("rect", bar, hint(`${one.row.title}\n${stage.kind}: ${costText(state.spent, stage[state.spent])}`)));
      from += stage[state.spent];
    }
    svg.append(draw("text", { class: "tick", x: x.at(from) + 6, y: i * line + 14 }, costText(state.spent, from)));
  });
  const key = make("div", { class: "key" }, ...[...kinds, "evaluation"].filter((kind) => used.has(kind)).map((kind) => {
    const patch = make("i");
    patch.style.background = tint(kind);
    return make("span", {}, patch, kind);
  }));
  return make("div", {}, key, svg);
}
