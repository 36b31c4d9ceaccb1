"""Which method moved which score: a grid of paired differences from the base."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polm_bench.report import words
from polm_bench.report.parts import Block, Column, Row, Table
from polm_bench.report.plot import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = (0.92, 0.21)  # inches
NAMES = 2.5  # inches for the methods' names
HEADS = 0.95  # inches for the scores' names and the key
HEAD = 14  # letters in a line of a score's name
SURE = 0.05  # Holm-corrected p-value below which a difference is shown in full colour
COLOURS = "PuOr"  # one hue each for worse and better, apart for all readers
KEY = f"Paired difference from the base. Orange is better, purple worse; bold and in full colour: p < {SURE} after Holm's correction."
PALE = 0.35  # share of the colour that a difference has which is not sure


def drawable(table: Table) -> bool:
    """Whether a row other than the base has a difference to show."""
    return any(_gains(block) for block in table.blocks)


def svg(table: Table) -> str:
    """The grid as SVG text; equal tables give equal text. Scores that only some methods have are left to the table."""
    blocks = [block for block in table.blocks if _gains(block)]
    heights = [HEADS + CELL[1] * len(_lines(block)) for block in blocks]
    width = max(len(block.parted()[0]) for block in blocks)

    def fill(figure: Figure) -> None:
        grid = figure.add_gridspec(len(blocks), 1, height_ratios=heights)
        for number, block in enumerate(blocks):
            _draw(figure.add_subplot(grid[number, 0]), block, named=len(table.blocks) > 1)
        figure.supxlabel(KEY, fontsize=7.5)

    return drawn((NAMES + CELL[0] * width, sum(heights)), fill)


def _gains(block: Block) -> list[Row]:
    """Rows with a difference in a common score."""
    common = [column.name for column in block.parted()[0]]
    return [row for row in block.rows if any(_difference(row, name) is not None for name in common)]


def _difference(row: Row, name: str) -> float | None:
    measure = row.measures.get(name)
    return measure.difference.mean if measure and measure.difference else None


def _lines(block: Block) -> list[Row | str]:
    """The methods, under a heading for each paradigm."""
    lines: list[Row | str] = []
    for row in _gains(block):
        if not any(isinstance(line, Row) and line.paradigm == row.paradigm for line in lines):
            lines.append(words.PARADIGMS.get(row.paradigm, row.paradigm or "Others"))
        lines.append(row)
    return lines


def _draw(axes: Axes, block: Block, named: bool) -> None:
    columns, lines = block.parted()[0], _lines(block)
    for across, column in enumerate(columns):
        _draw_column(axes, across, column, lines)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(lines), 0)
    axes.set_xticks([across + 0.5 for across in range(len(columns))], [_head(column) for column in columns], fontsize=7)
    axes.set_yticks(
        [down + 0.5 for down in range(len(lines))],
        [line if isinstance(line, str) else line.title for line in lines],
        fontsize=8,
    )
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, str) else "normal")
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    if named:
        axes.set_title(f"{block.place.model}, {block.place.data}", fontsize=9)


def _draw_column(axes: Axes, across: int, column: Column, lines: Sequence[Row | str]) -> None:
    """A score's differences; the largest of them has the strongest colour."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    found = {down: line.measures.get(column.name) for down, line in enumerate(lines) if isinstance(line, Row)}
    differences = {down: one.difference.mean for down, one in found.items() if one and one.difference}
    largest = max(map(abs, differences.values()), default=0.0)
    for down, difference in differences.items():
        measure = found[down]
        sure = measure is not None and measure.p_holm is not None and measure.p_holm < SURE
        strength = (difference * column.sign / largest if largest else 0.0) * (1.0 if sure else PALE)
        colour = colormaps[COLOURS](0.5 - 0.45 * strength)
        axes.add_patch(Rectangle((across, down), 1, 1, facecolor=colour, edgecolor="white", linewidth=1))
        axes.text(
            across + 0.5,
            down + 0.5,
            words.number(difference, sign=True),
            ha="center",
            va="center",
            fontsize=7,
            fontweight="bold" if sure else "normal",
            color="white" if abs(strength) > 0.75 else "black" if sure else "0.45",
        )


def _head(column: Column) -> str:
    task, _, metric = column.name.partition("/")
    shown = textwrap.wrap(task.replace("_", " "), HEAD) + textwrap.wrap(metric.replace("_", " "), HEAD)
    return "\n".join([*shown[:-1], f"{shown[-1]} {words.arrow(column.higher_is_better)}"]) if shown else ""
