"""What the terminal shows of a comparison: on one screen what a reader asks first, or all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from polm_bench.report import words
from polm_bench.report.compare import EXAMPLES, Comparison, Example, ScoreDiff

if TYPE_CHECKING:
    from rich.console import Console

SETTINGS, SURROUNDINGS = 12, 5  # lines of each on the one screen
MATTERS = (
    "versions.",
    "git.dirty",
    "machine.processor",
    "machine.cores",
    "machine.devices",
    "threads",
    "model.revision",
    "model.sha256",
    "data.revision",
    "data.sha256",
    "data.edition",
)
"""Surroundings that can move a score or a cost, by the beginning of their names."""

Changes = Sequence[tuple[str, Any, Any]]


def print_comparison(found: Comparison, console: Console, everything: bool = False, items: int = EXAMPLES) -> None:
    """Print what differs; what is equal is left out.

    `items` changed items are shown, those of the surest differences first. With `everything`, all settings, surroundings and scores, and the
    changed items that `found` holds of each headline score.
    """
    for letter, record in (("A", found.first), ("B", found.second)):
        reason = f": {record.data.get('reason')}" if record.status != "ok" else ""
        console.print(f"{letter}  {record.id}  {record.status}{reason}", highlight=False, markup=False, soft_wrap=True)
    around = found.surroundings if everything else [one for one in found.surroundings if one[0].startswith(MATTERS)]
    headline = [score for score in found.scores if score.headline]
    scores = found.scores if everything or not headline else headline
    _print_changes("Settings", found.settings, None if everything else SETTINGS, console)
    _print_changes("Environment", around, None if everything else SURROUNDINGS, console)
    console.print(f"Shared stages: {_shared(found, everything)}", highlight=False)
    if scores:
        _print_scores(scores, console)
    changed = _in_turn(headline, max(len(score.gains) + len(score.losses) for score in headline)) if headline else []
    for score, kind, example in changed if everything else changed[:items]:
        _print_example(score, kind, example, everything, console)
    if not everything and (rest := _left_out(found, len(around), len(scores), items)):
        console.print(f"Not shown: {rest}. All of it: --all; more items: --items N.", highlight=False)


def _shared(found: Comparison, everything: bool) -> str:
    if everything:
        return ", ".join(found.shared_stages) or "none"
    return f"{len(found.shared_stages)} of {len(found.second.data['stages'])} of B"


def _left_out(found: Comparison, around: int, scores: int, items: int) -> str:
    """How much of each part is not on the screen."""
    changed = sum(score.gained + score.lost for score in found.scores if score.headline)
    left = {
        "settings": len(found.settings) - SETTINGS,
        "of the environment": len(found.surroundings) - min(around, SURROUNDINGS),
        "scores": len(found.scores) - scores,
        "changed items": changed - items,
    }
    return ", ".join(f"{count} {name}" for name, count in left.items() if count > 0)


def _in_turn(scores: Sequence[ScoreDiff], most: int) -> list[tuple[ScoreDiff, str, Example]]:
    """Changed items, those of the surest differences first: one that got better and one that got worse of each score, then the next ones."""
    sure = sorted(scores, key=lambda score: math.inf if score.p_holm is None else score.p_holm)
    return [
        (score, kind, examples[place])
        for place in range(most)
        for score in sure
        for kind, examples in (("better", score.gains), ("worse", score.losses))
        if place < len(examples)
    ]


def _print_changes(title: str, changes: Changes, most: int | None, console: Console) -> None:
    """A line a change, `most` of them; values are cut to the width where not all are shown."""
    from rich.table import Table as Grid

    if not changes:
        console.print(f"{title}: the same", highlight=False)
        return
    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in (title, "A", "B"):
        grid.add_column(head, overflow="fold" if most is None else "ellipsis", no_wrap=most is not None)
    for name, first, second in changes[:most]:
        grid.add_row(f"  {name}", *(words.plain("-" if value is None else str(value)) for value in (first, second)))
    console.print(grid)


def _print_scores(scores: Sequence[ScoreDiff], console: Console) -> None:
    from rich.table import Table as Grid

    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False, caption_justify="left")
    grid.caption = (
        "B - A is paired by item, p Holm-corrected over these scores; items: how many B does better and worse."
    )
    for number, head in enumerate(("Scores", "A", "B", "B - A", "95 % interval", "p", "items")):
        grid.add_column(head, justify="right" if number else "left", overflow="fold", no_wrap=number > 0)
    tasks = [score.column.partition("/")[0] for score in scores]
    for score, task in zip(scores, tasks, strict=True):
        name = task if tasks.count(task) == 1 else score.column
        grid.add_row(*map(words.plain, _score_cells(f"  {name} {words.arrow(score.higher_is_better)}", score)))
    console.print(grid)
    for score in scores:
        if score.left_out or score.other_prompts:
            console.print(
                f"{score.column}: {score.left_out} items are in one record only, {score.other_prompts} had another prompt.",
                highlight=False,
            )


def _score_cells(name: str, score: ScoreDiff) -> list[str]:
    cells = [name, words.number(score.first.value), words.number(score.second.value)]
    if (found := score.difference) is None:
        return [*cells, words.number(score.second.value - score.first.value, True), "not per item", "", ""]
    return [
        *cells,
        words.number(found.mean, True),
        words.interval(found.low, found.high, True),
        words.p_alone(score.p_holm),
        f"+{score.gained} -{score.lost}",
    ]


def _print_example(score: ScoreDiff, kind: str, example: Example, whole: bool, console: Console) -> None:
    console.print(f"{score.column}, {kind} in B: {example.item}", highlight=False, markup=False)
    for name, value, text in (
        ("A", example.first, example.first_output),
        ("B", example.second, example.second_output),
    ):
        shown = f"  {name} {words.number(value)}  {' '.join(text.split())}"
        console.print(shown, highlight=False, markup=False, no_wrap=not whole, overflow="fold" if whole else "ellipsis")
