"""A block of a table as grids of texts, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from polm_bench.report import curves, words
from polm_bench.report.page import Sheet
from polm_bench.report.parts import Block, Column, Row, Table
from polm_bench.report.sharing import sharing

DIFFERENCE, OF_SOME = "Difference from the base", ", of some methods"
ONE_SEED = (
    "One seed: intervals and tests tell what other items could change, and nothing of what another training could."
)
UNUSUAL = ("serve_peak_bytes", "load_seconds", "cache_bytes")  # costs that only a table which asks for them shows


def sheets(table: Table, block: Block) -> list[Sheet]:
    """Scores, differences from the base and ranks (those that only some rows have apart), all tasks in one figure, and cost."""
    marks = {note: _letter(number) for number, note in enumerate(table.notes())}

    def marked(row: Row, columns: Sequence[str]) -> list[str] | None:
        name = row.title + "".join(f" [{marks[note]}]" for note in row.notes)
        scores = (_score(row, column) for column in columns)
        return None if row.lacks_records else [name, words.counts(row.statuses), *scores]

    def sheet(
        title: str, texts: Callable[[Row, list[str]], list[str] | None], columns: list[Column], *head: str
    ) -> Sheet:
        names = [column.name for column in columns]
        return _sheet(title, ["method", *(head or names)], table, block, lambda row: texts(row, names))

    common, others = block.parted()
    common_heads, other_heads = ([words.column_head(one, block.rows) for one in part] for part in (common, others))
    common_ways, other_ways = ([words.directed(one) for one in part] for part in (common, others))
    found = [
        sheet("Scores", marked, common, "cells", *common_heads),
        sheet(f"Scores{OF_SOME}", _scores, others, *other_heads),
        sheet(DIFFERENCE, _gaps, common, *common_ways),
        sheet(f"{DIFFERENCE}{OF_SOME}", _gaps, others, *other_ways),
        sheet("Ranks", _ranks, common),
        sheet(f"Ranks{OF_SOME}", _ranks, others),
        *_overall_sheet(table, block),
        *_along_sheet(table, block),
        _cost_sheet(table, block),
        *_tuning_sheet(table, block),
    ]
    return [sheet for sheet in found if sheet.lines and len(sheet.head) > 1]


def _scores(row: Row, columns: Sequence[str]) -> list[str] | None:
    return _if_any(row, [_score(row, column) for column in columns])


def _gaps(row: Row, columns: Sequence[str]) -> list[str] | None:
    known = (row.measures.get(column) for column in columns)
    return _if_any(row, [words.difference(measure) if measure else "" for measure in known])


def _ranks(row: Row, columns: Sequence[str]) -> list[str] | None:
    return _if_any(row, [words.ranks(row.ranks.get(column)) for column in columns])


def _if_any(row: Row, texts: list[str]) -> list[str] | None:
    return [row.title, *texts] if any(texts) else None


def legend(table: Table) -> list[str]:
    """How to read the table, then the rows' notes and the missing cells."""
    against = words.COST_NAMES.get(table.spec.against, table.spec.against)
    tested = [one for block in table.blocks for row in block.rows for one in row.measures.values() if one.difference]
    lines = [
        "Scores: mean over seeds and items with its 95 % interval (bootstrap over seeds and clusters of items; Student's t over seeds for a figure "
        f"that no item has). * no other row is as good at lower {against}.",
        "Differences: paired by item, each with a 95 % interval of its own; the p-values are Holm-corrected over all "
        f"{len(tested):,} differences of this table, so an interval may leave out zero beside a large p. Benjamini and Hochberg's stand in the CSV and "
        "JSON (p_bh): of the differences with p_bh < 0.05 at most 5 % are expected to be none.",
        "Ranks: the best and the worst place that paired tests (Holm-corrected over the column's pairs) leave open, which are 1 + the number of "
        "methods found better, and the number of methods less those found worse. Methods that can't be told apart share the best place.",
    ]
    if len(table.spec.every_seed()) == 1:
        lines.append(ONE_SEED)
    if any(block.overall for block in table.blocks):
        lines.append(
            "All tasks: interquartile mean of the scores that are proportions, and the chance that a seed beats the base on a task, ties half "
            "(Agarwal et al. 2021); 95 % intervals by bootstrap over seeds within tasks: narrow with three seeds, none with one."
        )
    if any("tuning" in record.data for record in table.records):
        lines.append(
            "Best of k trials: the validation score, higher is better, to expect of the best of k trials drawn from those that were run, with its "
            "standard deviation (Dodge et al. 2019, Eq. 8). The suite judged the chosen one only."
        )
    if table.spec.along or table.spec.wins:
        lines.append(curves.LEGEND)
    lines.append(
        "Cost: making the model, whatever it shares with other cells included; its evaluation not. Means over seeds."
    )
    if len(table.records) > 1:
        shared = sharing(table.records)
        lines.append(
            f"Sharing: the cells ask for {shared.asked:,} stages and {shared.run:,} were run, in {words.cost('wall_seconds', shared.seconds)}; "
            f"running each cell alone would have taken {words.cost('wall_seconds', shared.saved)} more."
        )
    lines += [f"[{_letter(number)}] {note}" for number, note in enumerate(table.notes())]
    if table.missing:
        lacking = dict.fromkeys(row.title for block in table.blocks for row in block.rows if row.lacks_records)
        whole = f" (all those of {'; '.join(lacking)})" if lacking else ""
        lines.append(
            f"{len(table.missing)} cells have no record yet{whole}: `polm-bench table {table.spec.name} --run` runs them."
        )
    return lines


def place(table: Table, block: Block) -> str:
    return words.place_line(block.place, table.spec.every_seed())


def _sheet(title: str, head: list[str], table: Table, block: Block, texts: Callable[[Row], list[str] | None]) -> Sheet:
    """A line per row that has one, under its paradigm's name where the table is grouped."""
    lines: list[list[str]] = []
    keys: list[str] = []
    last = None
    for row in block.rows:
        line = texts(row)
        if line is None:
            continue
        if table.spec.grouped and row.paradigm != last:
            lines.append([words.PARADIGMS.get(row.paradigm, row.paradigm or "Others")])
            keys.append("")
            last = row.paradigm
        lines.append(line)
        keys.append(row.name)
    return Sheet(title, head, lines, tuple(keys))


def _score(row: Row, column: str) -> str:
    measure = row.measures.get(column)
    return "" if measure is None else words.score(measure) + (" *" if measure.front else "")


def _overall_sheet(table: Table, block: Block) -> list[Sheet]:
    if not block.overall:
        return []

    def texts(row: Row) -> list[str] | None:
        found = block.overall.get(row.name)
        if found is None:
            return None
        known = (found.middle, found.improves)
        return [
            row.title,
            *(f"{words.number(one[0])} {words.interval(one[1], one[2])}".strip() if one else "" for one in known),
        ]

    head = ["method", f"interquartile mean of {len(block.proportions)} proportions", "chance to beat the base"]
    return [_sheet(f"All {len(block.parted()[0])} tasks", head, table, block, texts)]


def _along_sheet(table: Table, block: Block) -> list[Sheet]:
    if not (table.spec.along or table.spec.wins):
        return []
    names = curves.shown(block.rows) if table.spec.along else []

    def texts(row: Row) -> list[str] | None:
        found = curves.line(row, block, names, table.spec.wins)
        return None if found is None else [row.title, *found]

    return [_sheet("Along training", ["method", *curves.head(names, table.spec.wins)], table, block, texts)]


def _cost_sheet(table: Table, block: Block) -> Sheet:
    """Costs that some row has; a cost of nothing everywhere says nothing."""
    wanted: Sequence[str] = table.spec.costs or [name for name in words.COST_NAMES if name not in UNUSUAL]
    shown = [name for name in wanted if any(row.costs.get(name) for row in block.rows)]

    def texts(row: Row) -> list[str] | None:
        if not row.records:
            return None
        return [row.title, *(words.cost(name, row.costs.get(name)) for name in shown)]

    return _sheet("Cost", ["method", *(words.COST_NAMES[name] for name in shown)], table, block, texts)


def _tuning_sheet(table: Table, block: Block) -> list[Sheet]:
    """What tuning bought: the best validation score to expect of k trials, for rows that were tuned."""
    known = {record.id: record.data["tuning"] for record in table.records if "tuning" in record.data}
    told = {row.name: [known[name] for name in row.records if name in known] for row in block.rows}
    most = max((one["trials"] for own in told.values() for one in own), default=0)

    def texts(row: Row) -> list[str] | None:
        own = told[row.name]
        if not own:
            return None
        chosen = sorted({words.setting_text(one["chosen"]) for one in own})
        return [row.title, own[0]["by"], *(_expected(own, k) for k in range(1, most + 1)), "; ".join(chosen)]

    head = ["method", "validation", *(f"k = {k}" for k in range(1, most + 1)), "chosen"]
    return [_sheet("Best of k trials, expected", head, table, block, texts)] if most else []


def _expected(tunings: Sequence[dict[str, Any]], k: int) -> str:
    """Mean over seeds of the expected best of k trials, and of its standard deviation."""
    found = [one["best_after"][k - 1] for one in tunings if len(one["best_after"]) >= k]
    found = [one for one in found if one["expected"] is not None]
    if not found:
        return ""
    mean, spread = (sum(one[name] for one in found) / len(found) for name in ("expected", "spread"))
    return f"{words.number(mean)} ± {words.number(spread)}"


def _letter(number: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)
