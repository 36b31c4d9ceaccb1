"""Expected against taken, seconds and memory, a point a stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polm_bench.report.plot import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from polm_bench.report.forecast import Looked

PANEL = (4.8, 4.2)  # inches
MARKS = {"like stages": "o", "counted": "^"}
BAND = 1.3  # dotted lines at this many times, and at one part in this many, of what was taken
COLOURED = 9  # kinds with a colour of their own: those that took most; the others are grey


def svg(looks: Sequence[Looked]) -> str:
    """The panels as SVG text; equal looks give equal text."""
    from polm_bench.report.forecast import MEMORY, SECONDS

    def fill(figure: Figure) -> None:
        _panel(figure.add_subplot(1, 2, 1), looks, SECONDS, "seconds", 1.0)
        _panel(figure.add_subplot(1, 2, 2), looks, MEMORY, "peak memory, GB", 1e9)

    return drawn((2 * PANEL[0], PANEL[1]), fill)


def _panel(axes: Axes, looks: Sequence[Looked], figure: tuple[str, str, str], unit: str, size: float) -> None:
    taken, expected, basis = figure
    known = [one for one in looks if getattr(one, expected) and getattr(one, taken)]
    spent = {kind: sum(one.seconds for one in known if one.kind == kind) for kind in {one.kind for one in known}}
    kinds = sorted(spent, key=lambda kind: (-spent[kind], kind))
    for number, kind in enumerate(kinds):
        for name, mark in MARKS.items():
            own = [one for one in known if one.kind == kind and getattr(one, basis) == name]
            xs, ys = ([getattr(one, figure) / size for one in own] for figure in (taken, expected))
            colour = f"C{number}" if number < COLOURED else "0.6"
            axes.plot(xs, ys, mark, color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
        if number < COLOURED:
            axes.plot([], [], "s", color=f"C{number}", markersize=4, label=kind)
    if len(kinds) > COLOURED:
        axes.plot([], [], "s", color="0.6", markersize=4, label="other kinds")
    for name, mark in MARKS.items():
        axes.plot([], [], mark, color="black", markersize=4, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if known:
        ends = sorted(getattr(one, figure) / size for one in known for figure in (taken, expected))
        span = [ends[0], ends[-1]]
        axes.plot(span, span, color="0.4", linewidth=1, zorder=0)
        for times in (BAND, 1 / BAND):
            axes.plot(span, [times * end for end in span], color="0.6", linestyle=":", linewidth=1, zorder=0)
        axes.legend(fontsize=6)
    axes.set_xlabel(f"taken, {unit}")
    axes.set_ylabel(f"foretold, {unit}")
    axes.set_title(f"{unit}: foretold against taken; dotted: 30 % off", fontsize=9)
