"""Quality against cost, one panel per score, with the Pareto front."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from polm_bench.report import words
from polm_bench.report.parts import Block, Column, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3  # panels in a row
LABELLED = 12  # points that all have their names; of more, only those on the front have
STYLE = {
    "svg.hashsalt": "polm-bench",  # ids in the file are the same each time
    "svg.fonttype": "none",  # text stays text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
COLOURS = {  # those of web/chart.js
    "baseline": "#4f5861",
    "fine_tuning": "#2c6aa0",
    "alignment": "#b4532a",
    "reasoning": "#3b8160",
    "efficiency": "#7d5a9b",
    "integration": "#a07a1c",
}
OTHER = "#77818a"
NAME_SIZE = 7.5  # points
LETTER = 0.62  # width of a letter in sizes of its font, about; what shows the file may have another font
SIDES = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))  # of a point, where its name may stand
RINGS = 9  # how far from it, in steps

Points = list[tuple[float, Row]]  # a row and its cost
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points


def drawn(size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """SVG text of a figure so many inches wide and high; equal drawings give equal text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def svg(table: Table) -> str:
    """The plot as SVG text; equal tables give equal text. Scores that only some methods have are left to the table."""
    panels = [(block, column) for block in table.blocks for column in block.parted()[0]]
    across, lines = min(ACROSS, max(1, len(panels))), max(1, math.ceil(len(panels) / ACROSS))

    def fill(figure: Figure) -> None:
        filled = [
            (axes, column, _draw_points(axes, table, block, column))
            for number, (block, column) in enumerate(panels, 1)
            for axes in [figure.add_subplot(lines, across, number)]
        ]
        _draw_legend(figure, table)
        figure.draw_without_rendering()  # gives the panels their places, which names depend on
        figure.set_layout_engine("none")
        for axes, column, points in filled:
            _name_points(axes, points, column)

    return drawn((4.2 * across, 3.2 * lines), fill)


def draw(axes: Axes, table: Table, block: Block, column: Column) -> None:
    """One panel: a point per row with its interval, the front as a line, and names."""
    _name_points(axes, _draw_points(axes, table, block, column), column)


def _draw_points(axes: Axes, table: Table, block: Block, column: Column) -> Points:
    against = table.spec.against
    points = [
        (cost, row)
        for row in block.rows
        if column.name in row.measures and (cost := row.costs.get(against)) is not None
    ]
    for cost, row in sorted(points, key=lambda point: point[1].measures[column.name].front):
        measure = row.measures[column.name]
        low, high = (measure.value if bound is None else bound for bound in (measure.low, measure.high))
        # An interval of a skewed score may leave its mean out by rounding.
        reach = [[max(0.0, measure.value - low)], [max(0.0, high - measure.value)]]
        size, alpha = (5.5, 1.0) if measure.front else (4.0, 0.6)
        colour = COLOURS.get(row.paradigm, OTHER)
        axes.errorbar([cost], [measure.value], yerr=reach, fmt="o", color=colour, ms=size, elinewidth=0.8, alpha=alpha)
    _draw_front(axes, points, column)
    _scale_costs(axes, against, [cost for cost, _ in points])
    place = f" ({block.place.model}, {block.place.data})" if len(table.blocks) > 1 else ""
    axes.set_title(f"{words.directed(column)}{place}", fontsize=9)
    axes.set_ylabel("higher is better" if column.higher_is_better else "lower is better")
    axes.set_xlabel(words.COST_NAMES.get(against, against))
    return points


def _draw_front(axes: Axes, points: Points, column: Column) -> None:
    front: list[tuple[Any, Any]] = sorted(
        (cost, row.measures[column.name].value) for cost, row in points if row.measures[column.name].front
    )
    if front:
        axes.step(*zip(*front, strict=True), where="post", color="0.6", linestyle="--", linewidth=1, zorder=0)


def _draw_legend(figure: Figure, table: Table) -> None:
    """The paradigms' colours, once for all panels, where there are several."""
    from matplotlib.lines import Line2D

    kinds = list(dict.fromkeys(row.paradigm for block in table.blocks for row in block.rows if row.measures))
    if len(kinds) > 1:
        marks = [Line2D([], [], marker="o", ls="", ms=5, color=COLOURS.get(kind, OTHER)) for kind in kinds]
        names = [words.PARADIGMS.get(kind, kind or "Others") for kind in kinds]
        figure.legend(marks, names, loc="outside lower center", ncols=len(kinds), frameon=False)


def _scale_costs(axes: Axes, name: str, costs: Sequence[float]) -> None:
    """By decades where costs differ much, with a narrow place for those of nothing; marks have their units."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    above = [cost for cost in costs if cost > 0]
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if above and max(above) >= 5 * min(above):
        free = [0.0] if len(above) < len(costs) else []
        if free:
            axes.set_xscale("symlog", linthresh=min(above), linscale=0.3)
        else:
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([*free, *_marks(min(above), max(above))]))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _mark(name, value)))
    axes.margins(x=0.15)


def _marks(low: float, high: float) -> list[float]:
    """Round costs between two: powers of ten, and 2 and 5 times those where there are few."""
    steps = (1, 2, 5) if high / low <= 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [mark for power in powers for step in steps if low / 1.2 <= (mark := step * 10.0**power) <= high * 1.2]


def _mark(name: str, value: float) -> str:
    if name.endswith("_seconds") and value < 600:
        return f"{value:g} s"
    if name == "flops":
        return words.scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E"))
    return words.cost(name, value) if value else "0"


def _name_points(axes: Axes, points: Points, column: Column) -> None:
    """Names beside points where nothing else stands, those on the front first; a point that has no such place stays without."""
    axes.autoscale_view()  # matplotlib would put it off until it draws
    inch = axes.figure.dpi
    panel = axes.get_window_extent()
    left, bottom, right, top = (72 * edge / inch for edge in (panel.x0, panel.y0, panel.x1, panel.y1))
    places = {
        row.name: axes.transData.transform((cost, row.measures[column.name].value)) * 72 / inch for cost, row in points
    }
    taken = [(x - 3.0, y - 3.0, x + 3.0, y + 3.0) for x, y in places.values()]
    named = sorted((row for _, row in points), key=lambda row: not row.measures[column.name].front)
    for row in named:
        if len(points) > LABELLED and not row.measures[column.name].front:
            continue
        x, y = places[row.name]
        for dx, dy in ((step * 5.0 * across, step * 7.0 * up) for step in range(1, RINGS) for across, up in SIDES):
            box = _box(row.title, x + dx, y + dy, dx)
            inside = left <= box[0] and bottom <= box[1] and box[2] <= right and box[3] <= top
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                _write(axes, row.title, (x - left, y - bottom), (dx, dy))
                break


def _write(axes: Axes, text: str, point: tuple[float, float], away: tuple[float, float]) -> None:
    """A name so far from its point, with a thin line to it where it is not beside it."""
    axes.annotate(
        text,
        point,
        xycoords="axes points",
        xytext=away,
        textcoords="offset points",
        fontsize=NAME_SIZE,
        ha="left" if away[0] > 0 else "right" if away[0] < 0 else "center",
        va="center",
        arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6} if max(map(abs, away)) > 14 else None,
    )


def _box(text: str, x: float, y: float, side: float) -> Box:
    """The room of a name that begins, ends or has its middle at a place."""
    wide, high = LETTER * NAME_SIZE * len(text), 1.2 * NAME_SIZE
    start = x if side > 0 else x - wide if side < 0 else x - wide / 2
    return start, y - high / 2, start + wide, y + high / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
