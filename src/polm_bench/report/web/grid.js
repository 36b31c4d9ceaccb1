"use strict";
/* Grids: sorted by a click on a head, thinned by what the reader picked. */

const PREFIX = { "": 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, s: 1, min: 60, h: 3600 };

/** What a cell's text is worth: a number with its unit, else the text. */
function worth(cell) {
  const text = (cell.querySelector("b") || cell).textContent.trim();
  const found = /^([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?:\s*(min|s|h|[kMGT]?)B?)?(?=$|[\s,;)-])/.exec(text);
  return found ? Number(found[1].replaceAll(",", "")) * (PREFIX[found[2] || ""] ?? 1) : text;
}

/** Order of two worths: numbers before texts, what is empty last. */
function order(first, second) {
  const kinds = [first, second].map((one) => (typeof one === "number" ? 0 : one === "" ? 2 : 1));
  if (kinds[0] !== kinds[1]) return kinds[0] - kinds[1];
  return kinds[0] === 1 ? first.localeCompare(second) : first - second;
}

/** Sort a grid by a column: largest first, then smallest first, then as it was. Names begin with the first letter. */
function sortBy(head) {
  const table = head.closest("table");
  const [up, down] = head.classList.contains("left") ? ["ascending", "descending"] : ["descending", "ascending"];
  const now = head.getAttribute("aria-sort");
  const next = now === up ? down : now === down ? null : up;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  const body = table.tBodies[0];
  body.original ??= [...body.rows];
  let rows = body.original;
  if (next) {
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const known = body.original
      .filter((row) => !row.classList.contains("group"))
      .map((row) => [worth(row.cells[head.cellIndex]), row]);
    known.sort(([a], [b]) => (a === "" || b === "" ? order(a, b) : sign * order(a, b)));
    rows = known.map(([, row]) => row);
  }
  body.replaceChildren(...rows);
}

/** Show the lines that the reader picked, and a heading where a line below it shows. */
function thin(table, shows) {
  let heading = null;
  for (const row of table.tBodies[0].rows) {
    if (row.classList.contains("group")) {
      heading = row;
      row.hidden = true;
      continue;
    }
    row.hidden = !shows(row);
    if (!row.hidden && heading) heading.hidden = false;
  }
}

function readyGrids() {
  for (const head of document.querySelectorAll("figure.grid thead th")) {
    head.tabIndex = 0;
    head.title = "Sort";
    head.addEventListener("click", () => sortBy(head));
    head.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(head));
  }
}
