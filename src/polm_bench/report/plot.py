"""Quality against cost, one panel per score, with the Pareto front."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from polm_bench.report import words
from polm_bench.report.parts import Block, Column, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 3  # panels in a row
LABELLED = 12  # points that all have their names; of more, only those on the front have
STYLE = {
    "svg.hashsalt": "polm-bench",  # ids in the file are the same each time
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def svg(table: Table) -> str:
    """The plot as SVG text; equal tables give equal text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = [(block, column) for block in table.blocks for column in block.columns]
    lines = max(1, math.ceil(len(panels) / ACROSS))
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(4.2 * min(ACROSS, max(1, len(panels))), 3.2 * lines), layout="constrained")
        FigureCanvasSVG(figure)
        for number, (block, column) in enumerate(panels):
            draw(
                figure.add_subplot(lines, ACROSS if len(panels) >= ACROSS else len(panels), number + 1),
                table,
                block,
                column,
            )
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def draw(axes: Axes, table: Table, block: Block, column: Column) -> None:
    """One panel: a point per row with its interval, and the front as a line."""
    against = table.spec.against
    points = [
        (cost, row)
        for row in block.rows
        if column.name in row.measures and (cost := row.costs.get(against)) is not None
    ]
    kinds = [row.paradigm if table.spec.grouped else row.name for row in block.rows]
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    colours = {row.name: f"C{numbers[kind] % 10}" for row, kind in zip(block.rows, kinds, strict=True)}
    crowded = len(points) > LABELLED
    for cost, row in points:
        measure = row.measures[column.name]
        low, high = (measure.value if bound is None else bound for bound in (measure.low, measure.high))
        # An interval of a skewed score may leave its mean out by rounding.
        reach = [[max(0.0, measure.value - low)], [max(0.0, high - measure.value)]]
        axes.errorbar([cost], [measure.value], yerr=reach, fmt="o", color=colours[row.name], capsize=2)
        if not crowded or measure.front:
            axes.annotate(row.title, (cost, measure.value), xytext=(5, 4), textcoords="offset points", fontsize=8)
    if table.spec.grouped:
        for kind, number in numbers.items():
            axes.plot([], [], "o", color=f"C{number % 10}", label=words.PARADIGMS.get(kind, kind))
        axes.legend(fontsize=6)
    _draw_front(axes, points, column)
    costs = [cost for cost, _ in points]
    if costs and min(costs) > 0:
        axes.set_xscale("log")
    elif crowded and max(costs) > 0:
        axes.set_xscale("symlog", linthresh=min(cost for cost in costs if cost > 0))
    axes.margins(x=0.15)
    place = f" ({block.place.model}, {block.place.data})" if len(table.blocks) > 1 else ""
    axes.set_title(f"{column.name}{place}", fontsize=9)
    axes.set_ylabel("higher is better" if column.higher_is_better else "lower is better")
    axes.set_xlabel(words.COST_NAMES.get(against, against))


def _draw_front(axes: Axes, points: list[tuple[float, Row]], column: Column) -> None:
    front: list[tuple[Any, Any]] = sorted(
        (cost, row.measures[column.name].value) for cost, row in points if row.measures[column.name].front
    )
    if front:
        axes.step(*zip(*front, strict=True), where="post", color="0.6", linestyle="--", linewidth=1, zorder=0)
