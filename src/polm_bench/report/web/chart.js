/* What all charts share: elements, scales, words of numbers. */

const COLOURS = { baseline: "#4f5861", fine_tuning: "#2c6aa0", alignment: "#b4532a", reasoning: "#3b8160", efficiency: "#7d5a9b", integration: "#a07a1c" };
const KINDS = ["#3f6f9f", "#c07a3e", "#5d9272", "#a35a5a", "#7d6aa5", "#8b7355", "#5fa0a8", "#b58aa5", "#8c9440", "#6f7f8f", "#2f4b6e", "#d2a679", "#86b39b", "#c98d8d", "#a99bc9", "#4d4034"];
const OTHER = "#77818a";

const colour = (row) => COLOURS[row.paradigm] || OTHER;

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function draw(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const canvas = (width, height, label) => draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
const hint = (text) => draw("title", {}, text);

/** A labelled choice; `options` are [value, text]. */
function choice(label, options, value, chosen) {
  const select = make("select", {}, ...options.map(([name, text]) => make("option", { value: name }, text)));
  select.value = value;
  select.addEventListener("change", () => chosen(select.value));
  return make("label", {}, label, select);
}

/** Three decimals below ten, one above, as the tables have them. */
function number(value, sign = false) {
  const text = Math.abs(value).toFixed(Math.abs(value) < 10 ? 3 : 1);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : sign ? "+" : "") + text;
}

function scaled(value, unit = "") {
  if (value === 0) return "0";
  if (Math.abs(value) >= 1e15) return value.toExponential(1).replace("e+", "e");
  const [step, letter] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [0, ""]].find(([one]) => Math.abs(value) >= one);
  return `${Number((value / (step || 1)).toPrecision(3))} ${letter}${unit}`.trim();
}

/** A cost with its unit. */
function costText(name, value) {
  if (name.endsWith("_bytes")) return scaled(value, "B");
  if (name.endsWith("_seconds")) return value >= 36000 ? `${(value / 3600).toFixed(1)} h` : value >= 600 ? `${(value / 60).toFixed(1)} min` : `${Number(value.toPrecision(3))} s`;
  return scaled(value);
}

/** Round values that divide a span into about `count` parts. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

/** A scale from [low, high] to [start, end]. */
function linear(low, high, start, end) {
  const at = (value) => start + ((value - low) / (high - low || 1)) * (end - start);
  return { at, ticks: (count) => ticks(low, high, count) };
}

/** The span of some values with a margin on both sides. */
function span(values, margin = 0.05) {
  const known = values.filter((one) => one !== null && Number.isFinite(one));
  const low = Math.min(...known), high = Math.max(...known);
  const room = (high - low || Math.abs(high) || 1) * margin;
  return [low - room, high + room];
}

/** A scale of costs: by decades where they differ by much, with a place of its own for nothing. */
function costScale(values, start, end) {
  const above = values.filter((one) => one > 0);
  const low = Math.min(...above), high = Math.max(...above);
  if (!above.length || high / low < 5) {
    const [first, last] = span(values);
    return linear(Math.min(...values) >= 0 ? Math.max(0, first) : first, last, start, end);
  }
  const zero = above.length < values.length;
  const from = start + (zero ? 56 : 0);
  const room = Math.log10(high / low) * 0.05;
  const log = linear(Math.log10(low) - room, Math.log10(high) + room, from, end);
  const steps = high / low > 1e3 ? [1] : [1, 2, 5];
  const marks = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power++)
    for (const step of steps) {
      const mark = step * 10 ** power;
      if (Math.log10(mark) >= Math.log10(low) - room && Math.log10(mark) <= Math.log10(high) + room) marks.push(mark);
    }
  return { at: (value) => (value > 0 ? log.at(Math.log10(value)) : start + 14), ticks: () => (zero ? [0, ...marks] : marks), gap: zero ? start + 38 : null };
}

const short = (name) => name.replace("/", " / ");
const better = (column) => (column.up ? "higher is better" : "lower is better");
