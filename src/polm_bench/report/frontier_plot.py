"""Plots beside the frontier: reward against divergence, proxy against gold reward, and likelihoods along training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from polm_bench.report.plot import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from polm_bench.report.frontier import Point

MARKS = "os^vD<>Pp*hX"
PANEL = (4.6, 3.6)  # inches
NAMES = 8  # in a line of the legend, which all panels share
COLOURS = [*range(0, 20, 2), *range(1, 20, 2)]  # of matplotlib's tab20: the ten strong ones, then the ten pale ones
Curve = list[dict[str, float]]


def svg(points: Sequence[Point]) -> str:
    """The panels as SVG text; equal points give equal text. Panels without anything to show are left out."""
    panels: list[Callable[[Axes, Sequence[Point]], None]] = [_frontier, _length, _repetition]
    panels += [_proxy, _gold] if any(True for _ in _policies(points)) else []
    panels += [_likelihoods] if any(True for _ in _pairs(points)) else []
    across = min(3, len(panels))
    lines = -(-len(panels) // across)

    def fill(figure: Figure) -> None:
        for number, draw in enumerate(panels, 1):
            draw(figure.add_subplot(lines, across, number), points)
        named = {
            label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if named:
            figure.legend(
                named.values(), named.keys(), loc="outside lower center", ncols=NAMES, fontsize=8, frameon=False
            )

    return drawn((PANEL[0] * across, PANEL[1] * lines), fill)


def _look(points: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """Colour and mark of each method."""
    from matplotlib import colormaps

    colours = [colormaps["tab20"].colors[n] for n in COLOURS]  # type: ignore[attr-defined]
    names = dict.fromkeys(point.recipe for point in points)
    return {name: {"color": colours[n % len(colours)], "marker": MARKS[n % len(MARKS)]} for n, name in enumerate(names)}


def _frontier(axes: Axes, points: Sequence[Point]) -> None:
    from polm_bench.report.frontier import KL, REWARD, START

    _lines(axes, points, KL, REWARD)
    starts = {round(point.values[START].value, 6) for point in points if START in point.values}
    axes.plot([0] * len(starts), sorted(starts), "*", color="black", markersize=8, label="start" if starts else None)
    front = sorted((point.values[KL].value, point.values[REWARD].value) for point in points if point.front)
    if front:
        axes.step(*zip(*front, strict=True), where="post", color="0.6", linestyle="--", linewidth=1, zorder=0)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_title("Reward against divergence", fontsize=9)
    axes.set_xlabel("KL(model || start), nats per answer (k1)")
    axes.set_ylabel("gold reward")


def _length(axes: Axes, points: Sequence[Point]) -> None:
    from polm_bench.report.frontier import REWARD

    _lines(axes, points, "drift/tokens", REWARD)
    axes.set_title("Reward against length", fontsize=9)
    axes.set_xlabel("tokens per answer")
    axes.set_ylabel("gold reward")


def _repetition(axes: Axes, points: Sequence[Point]) -> None:
    from polm_bench.report.frontier import REWARD

    _lines(axes, points, "drift/repetition", REWARD)
    axes.set_title("Reward against repetition", fontsize=9)
    axes.set_xlabel("share of word pairs that an answer has had before")
    axes.set_ylabel("gold reward")


def _lines(axes: Axes, points: Sequence[Point], across: str, up: str) -> None:
    """A line per method through its settings in their order."""
    for name, look in _look(points).items():
        own = [point for point in points if point.recipe == name and {across, up} <= set(point.values)]
        if own:
            xs, ys = ([point.values[column].value for point in own] for column in (across, up))
            axes.plot(xs, ys, linewidth=1, markersize=4, label=own[0].title, **look)


def _policies(points: Sequence[Point]) -> Iterator[tuple[Point, Curve]]:
    """Curves with a reward that is learned from and one that is watched, of each method's setting that pulls back least."""
    yield from _curves(points, "TrainPolicy", ("reward", "gold"), lambda own: own[0])


def _pairs(points: Sequence[Point]) -> Iterator[tuple[Point, Curve]]:
    """Curves with the likelihoods of both answers, of each method's middle setting."""
    yield from _curves(points, "TrainPairs", ("logp_chosen", "logp_rejected"), lambda own: own[len(own) // 2])


def _curves(
    points: Sequence[Point], kind: str, names: tuple[str, str], choose: Callable[[list[Point]], Point]
) -> Iterator[tuple[Point, Curve]]:
    for recipe in dict.fromkeys(point.recipe for point in points):
        own = [point for point in points if point.recipe == recipe and point.records]
        if not own:
            continue
        point = choose(own)
        told = [curve["points"] for curve in point.records[0].data.get("curves", ()) if curve["kind"] == kind]
        if told and all(name in told[-1][0] for name in names):
            yield point, told[-1]


def _proxy(axes: Axes, points: Sequence[Point]) -> None:
    _along(axes, points, "reward", "Proxy reward, learned from (weakest pull)")


def _gold(axes: Axes, points: Sequence[Point]) -> None:
    _along(axes, points, "gold", "Gold reward, wanted (weakest pull)")


def _along(axes: Axes, points: Sequence[Point], name: str, title: str) -> None:
    """A reward along training; the divergence so far does not grow steadily, so it is no axis for a line."""
    look = _look(points)
    for point, curve in _policies(points):
        axes.plot(
            [each["step"] for each in curve],
            [each[name] for each in curve],
            linewidth=1,
            color=look[point.recipe]["color"],
        )
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step")
    axes.set_ylabel("reward")


def _likelihoods(axes: Axes, points: Sequence[Point]) -> None:
    look = _look(points)
    for point, curve in _pairs(points):
        first = curve[0]
        for name, line in (("logp_chosen", "-"), ("logp_rejected", ":")):
            axes.plot(
                [each["step"] for each in curve],
                [each[name] - first[name] for each in curve],
                linestyle=line,
                linewidth=1,
                color=look[point.recipe]["color"],
            )
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_title("Chosen (solid) and rejected (dotted), middle setting", fontsize=9)
    axes.set_xlabel("step")
    axes.set_ylabel("change of the log-prob, nats")
