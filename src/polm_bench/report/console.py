"""What the terminal shows of one record: its result at the end of a run, and all of it on request."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from polm_bench.report import words
from polm_bench.report.items import Evaluation, column_of
from polm_bench.report.measure import Figure, bootstrap, figure, gap
from polm_bench.report.notes import contaminated
from polm_bench.report.records import Record
from polm_bench.stats import Difference, holm

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

ROWS = ("base", "start", "self")


class Line(NamedTuple):
    """One row of the record in one headline score."""

    column: str
    higher_is_better: bool
    row: str
    figure: Figure
    difference: Difference | None  # from the base
    p_holm: float | None  # corrected over the record's differences


def lines_of(record: Record) -> list[Line]:
    """Headline scores of base, start and self, by score, with their differences from the base."""
    draws = bootstrap()
    headline = {column_of(score): score["higher_is_better"] for score in record.scores if score["headline"]}
    base = Evaluation(record, "base")
    found = []
    for column, better in headline.items():
        for row in ROWS:
            one = Evaluation(record, row)
            if row != "base" and one.key == base.key:
                continue
            if (known := figure([one], column, draws)) is not None:
                compared = gap([(one, base)], column, draws) if row != "base" else None
                found.append(Line(column, better, row, known, compared.found if compared else None, None))
    corrected = iter(holm([line.difference.p for line in found if line.difference]))
    return [line._replace(p_holm=next(corrected)) if line.difference else line for line in found]


def print_result(record: Record, console: Console) -> None:
    """Print scores of base, start and self with intervals and paired differences from the base, then cost."""
    cell = record.cell
    place = " ".join(f"{name}={cell[name]}" for name in ("model", "data", "budget", "suite", "seed"))
    console.print(f"[bold]{_name(record, 'self')}[/bold]  {place}", highlight=False)
    if record.status != "ok":
        console.print(
            f"[bold red]{record.status}[/bold red]: {words.plain(record.data.get('reason') or 'no reason recorded')}"
        )
    elif lines := lines_of(record):
        console.print(_result_grid(record, lines))
    else:
        console.print("This record has no headline scores.")
    for line in (*cost_lines(record), *(f"Note: {note}." for note in contaminated(record))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Record: {record.path}", highlight=False, markup=False, soft_wrap=True)
    console.print("Look at it beside other runs:  polm-bench ui", highlight=False, soft_wrap=True)


def _result_grid(record: Record, lines: list[Line]) -> Grid:
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    grid.caption = (
        "95 % intervals by bootstrap over items; differences paired by item, p Holm-corrected over this table."
    )
    grid.add_column("score", overflow="fold")
    grid.add_column("model", overflow="fold")
    for name in ("value", "95 % interval", "from base", "95 % interval", "p"):
        grid.add_column(name, justify="right", no_wrap=True)
    for _, group in groupby(lines, key=lambda line: line.column):
        same = list(group)
        for number, line in enumerate(same):
            style = _verdict(line) if line.row == "self" else None
            grid.add_row(*_cells(record, line, number, len(same)), end_section=number + 1 == len(same), style=style)
    return grid


def _cells(record: Record, line: Line, number: int, of: int) -> list[str]:
    """Texts of one line; the score's name is spread over the first two of its lines, to leave room."""
    task, _, metric = line.column.partition("/")
    head, rest = task, f"  {metric} {words.arrow(line.higher_is_better)} n={line.figure.items}"
    name = f"{head}{rest}" if of == 1 else (head, rest, *[""] * of)[number]
    cells = [name, _name(record, line.row), words.number(line.figure.value)]
    cells.append(words.plain(words.interval(line.figure.low, line.figure.high)))
    if found := line.difference:
        cells += [words.number(found.mean, True), words.plain(words.interval(found.low, found.high, True))]
        cells.append(words.p_alone(line.p_holm))
    return cells


def _verdict(line: Line) -> str | None:
    """Green for better than the base beyond doubt, red for worse."""
    if line.difference is None or line.p_holm is None or line.p_holm >= 0.05:
        return None
    return "green" if (line.difference.mean > 0) == line.higher_is_better else "red"


def result_dict(record: Record) -> dict[str, Any]:
    """The printed result as JSON values."""
    scores = []
    for line in lines_of(record) if record.status == "ok" else []:
        found = line.difference
        scores.append(
            {"score": line.column, "row": line.row, "higher_is_better": line.higher_is_better}
            | {"value": line.figure.value, "low": line.figure.low, "high": line.figure.high, "n": line.figure.items}
            | {"difference": None if found is None else {**_difference(found), "p_holm": line.p_holm}}
        )
    return {
        "id": record.id,
        "path": str(record.path),
        "status": record.status,
        "reason": record.data.get("reason"),
        "cell": {name: record.cell[name] for name in ("recipe", "model", "data", "budget", "suite", "seed")},
        "scores": scores,
        "cost": record.data["cost"],
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {"value": found.mean, "low": found.low, "high": found.high, "p": found.p, "test": found.test}


def print_record(record: Record, console: Console) -> None:
    """Print all of a record: how it was made, its stages, every score, cost and surroundings."""
    from rich import box
    from rich.table import Table as Grid

    print_result(record, console)
    stages = Grid(
        "stage", "key", "status", "seconds", "tokens trained", title="Stages", title_justify="left", box=box.SIMPLE_HEAD
    )
    for stage in record.data["stages"]:
        ledger = stage.get("ledger") or {}
        status = stage["status"] + (" (shared)" if stage.get("shared") else "")
        seconds = words.cost("wall_seconds", ledger.get("wall_seconds"))
        stages.add_row(
            stage["kind"], stage["key"], status, seconds, words.cost("tokens_trained", ledger.get("tokens_trained"))
        )
    console.print(stages)
    if record.scores:
        scores = Grid(
            "score",
            "row",
            "value",
            "stderr",
            "n",
            "shots",
            title="All scores",
            title_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for score in record.scores:
            stderr = "" if score.get("stderr") is None else words.number(score["stderr"])
            value = words.number(score["value"])
            scores.add_row(
                column_of(score), score["row"], value, stderr, str(score.get("n", "")), str(score.get("shots", ""))
            )
        console.print(scores)
    for title, name in (("Settings given by hand", "origins"), ("Made with", "provenance")):
        for line in _facts(record, name):
            console.print(f"{title}: {line}", highlight=False, markup=False, soft_wrap=True)


def _facts(record: Record, name: str) -> list[str]:
    from polm_bench.report.notes import flat

    if name == "origins":
        settings = dict(flat(record.cell["config"]))
        given = [key for key, origin in (record.cell.get("origins") or {}).items() if origin == "command line"]
        return [f"{key}={settings.get(key)}" for key in sorted(given)]
    return [f"{key} = {value}" for key, value in flat(record.data["provenance"])]


def cost_lines(record: Record) -> list[str]:
    """Cost in a few words: of making the model, and of serving it."""
    cost = record.data["cost"]

    def said(names: dict[str, str]) -> str:
        return ", ".join(text.format(words.cost(name, cost[name])) for name, text in names.items() if cost.get(name))

    making = said(
        {
            "wall_seconds": "{} wall time",
            "shared_wall_seconds": "of it {} shared with other cells",
            "tokens_trained": "{} tokens trained",
            "tokens_generated": "{} tokens generated",
            "flops": "{} FLOPs",
            "trainable_params": "{} trained parameters",
            "peak_host_bytes": "peak {} on the host",
            "peak_device_bytes": "peak {} on the device",
        }
    )
    serving = said(
        {
            "served_bytes": "{} on disk",
            "load_seconds": "loads in {}",
            "prefill_tokens_per_second": "prefill {} tokens/s",
            "decode_tokens_per_second": "decode {} tokens/s",
            "tokens_per_answer": "{} tokens per answer",
            "evaluation_seconds": "evaluated in {}",
        }
    )
    return [f"{name}: {text}." for name, text in (("Making it", making), ("Serving it", serving)) if text]


def _name(record: Record, row: str) -> str:
    if row == "self":
        return str(record.cell["recipe"])
    return "start (SFT)" if row == "start" else row
