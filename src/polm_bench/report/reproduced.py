"""Whether our records reproduce published figures, and the page that says so."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from polm_bench.report import words
from polm_bench.report.choose import Cells
from polm_bench.report.costs import COUNTED, cost_of, is_cost
from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import bootstrap, distinct, is_mean
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.published import Reference, of_cell
from polm_bench.report.records import Record
from polm_bench.stats import Bootstrap, equivalence, paired_difference
from polm_bench.stats.student import student_quantile

Verdict = Literal["reproduced", "differs", "cannot tell", "no record yet"]
VERDICTS: dict[str, Verdict] = {"same": "reproduced", "different": "differs", "cannot tell": "cannot tell"}
ALPHA = 0.05  # of each one-sided test; the interval that goes with them has the level 1 - 2 alpha
HEAD = ["method", "figure", "ours", "theirs", "difference", "90 % interval", "margin", "verdict", "remark"]


class Ours(NamedTuple):
    """A figure of our records."""

    value: float
    error: float | None  # standard error; None where one figure stands alone
    freedom: float
    items: int
    seeds: int


class Check(NamedTuple):
    """One published figure beside ours; the difference is ours minus theirs."""

    reference: Reference
    verdict: Verdict
    why: str
    ours: Ours | None = None
    error: float | None = None  # of the difference
    low: float | None = None
    high: float | None = None

    @property
    def difference(self) -> float | None:
        return self.ours.value - self.reference.value if self.ours else None


def check(reference: Reference, records: Sequence[Record], cells: Cells, draws: Bootstrap) -> Check:
    """Compare one figure by two one-sided tests (TOST) with its margin.

    The published figure's own error counts where it is known, as if its items were others than ours: that makes the interval too wide where
    they are the same ones, never too narrow.
    """
    if reference.cell is None or reference.quantity.metric is None:
        return Check(reference, "no record yet", reference.why)
    found = of_cell(records, reference.cell)
    ended = [Evaluation(record, "self") for record in found if record.status == "ok"]
    if not ended:
        failed = Counter(record.status for record in found)
        return Check(reference, "no record yet", f"its cells ended as {', '.join(failed)}" if failed else "")
    ours = measured(ended, reference.quantity.metric, cells, draws)
    if ours is None:
        return Check(reference, "no record yet", f"its records have no {reference.quantity.metric}")
    if ours.error is None:
        return Check(reference, "cannot tell", "one figure of ours and no error: more seeds would tell", ours)
    theirs = reference.error or 0.0
    error = math.hypot(ours.error, theirs)
    freedom = ours.freedom * (error / ours.error) ** 4 if ours.error else math.inf  # Satterthwaite, theirs as if known
    gap = ours.value - reference.value
    told = equivalence(gap, error, reference.margin, freedom, ALPHA)
    reach = student_quantile(freedom, 1 - ALPHA) * error
    why = "" if reference.error is not None or reference.quantity.metric in COUNTED else "their error is not told"
    return Check(
        reference,
        VERDICTS[told.verdict],
        "; ".join(filter(None, [why, reference.why])),
        ours,
        error,
        gap - reach,
        gap + reach,
    )


def measured(evaluations: Sequence[Evaluation], metric: str, cells: Cells, draws: Bootstrap) -> Ours | None:
    """A score or a cost over the seeds, with its standard error."""
    if is_cost(metric):
        values = [value for one in evaluations if (value := cost_of(one, metric, cells)) is not None]
        return _of_seeds(values, exact=metric in COUNTED)
    found = distinct([one for one in evaluations if metric in one.scores])
    if not found:
        return None
    if all(is_mean(one, metric) for one in found):
        side = align([items for one in found if (items := one.items(metric)) is not None])
        if side.scores.shape[1]:
            zero = np.zeros(side.scores.shape[1])
            told = paired_difference(side.scores, zero, draws, clusters=side.clusters, weights=side.weights)
            error, count = told.error, len(np.unique(side.clusters))
            if error == 0:  # all wrong or all right: half of Clopper and Pearson's interval, as if it were two errors
                error = (1 - (ALPHA / 2) ** (1 / count)) / 2
            return Ours(told.mean, error, told.freedom, told.items, told.seeds)
    values = [one.scores[metric]["value"] for one in found]
    stderr = found[0].scores[metric].get("stderr")
    if len(values) == 1 and stderr is not None:
        return Ours(values[0], float(stderr), math.inf, int(found[0].scores[metric].get("n") or 0), 1)
    return _of_seeds(values, exact=False)


def _of_seeds(values: Sequence[float], exact: bool) -> Ours | None:
    if not values:
        return None
    mean, seeds = math.fsum(values) / len(values), len(values)
    if exact and len(set(values)) == 1:
        return Ours(mean, 0.0, math.inf, 0, seeds)
    if seeds == 1:
        return Ours(mean, None, 1.0, 0, seeds)
    return Ours(mean, float(np.std(values, ddof=1)) / math.sqrt(seeds), seeds - 1, 0, seeds)


def reproduced_page(name: str, found: Sequence[Reference], records: Sequence[Record]) -> Page:
    """One part a publication, one line a figure."""
    draws, cells = bootstrap(), Cells(records)
    checks = [check(one, records, cells, draws) for one in found]
    parts, legend = [], []
    for publication in {one.publication.name: one.publication for one in found}.values():
        own = [one for one in checks if one.reference.publication.name == publication.name]
        sheet = Sheet(f"{publication.title}: {_count(own)}", HEAD, [_texts(one) for one in own])
        parts.append(Part(publication.name, (sheet,)))
        legend.append(f"{publication.name}: {publication.source}. {publication.setting}")
    rows = [_row(one) for one in checks]
    content = {"name": name, "against": sorted({part.title for part in parts}), "figures": rows}
    return Page(name, f"{name}: published figures beside ours", tuple(parts), (*legend, *LEGEND), rows, content)


LEGEND = (
    "Difference: ours minus theirs, with the interval of the two one-sided tests (TOST, 5 % each). reproduced: it lies inside the margin. "
    "differs: it does not, and a two-sided test at 5 % sees a difference. cannot tell: neither; more seeds or items would tell.",
    "no record yet: the cell was not run, or nothing here can make or measure the figure, as the remark says; `--run` runs what can be, "
    "`--format json` shows each cell's command.",
)


def _count(checks: Sequence[Check]) -> str:
    counts = Counter(str(one.verdict) for one in checks)
    return ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in (*VERDICTS.values(), "no record yet") if counts[verdict]
    )


def _texts(one: Check) -> list[str]:
    reference = one.reference
    metric = reference.quantity.metric or ""

    def text(value: float | None, sign: bool = False) -> str:
        if value is None:
            return ""
        if is_cost(metric):
            mark = ("-" if value < 0 else "+" if value else "") if sign else ""
            return mark + (words.cost(metric, abs(value)) or "0")
        return words.number(value, sign)

    bounds = "" if one.low is None else f"[{text(one.low, True)}, {text(one.high, True)}]"
    ours = text(one.ours.value) if one.ours else ""
    theirs = text(reference.value) if metric else f"{reference.value:g}"
    margin = text(reference.margin) if metric else ""
    return [
        reference.line.method,
        reference.name,
        ours,
        theirs,
        text(one.difference, True),
        bounds,
        margin,
        one.verdict,
        one.why,
    ]


def _row(one: Check) -> dict[str, Any]:
    reference = one.reference
    command = None if reference.cell is None else shlex.join(["polm-bench", "run", *reference.cell])
    return {
        "publication": reference.publication.name,
        "method": reference.line.method,
        "figure": reference.name,
        "metric": reference.quantity.metric,
        "ours": one.ours.value if one.ours else None,
        "ours_error": one.ours.error if one.ours else None,
        "items": one.ours.items if one.ours else None,
        "seeds": one.ours.seeds if one.ours else None,
        "theirs": reference.value,
        "theirs_error": reference.error,
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "margin": reference.margin if reference.quantity.metric else None,
        "verdict": one.verdict,
        "why": one.why,
        "cell": command,
        "source": reference.publication.source,
    }
