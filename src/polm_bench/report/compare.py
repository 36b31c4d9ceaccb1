"""Why two records differ: settings, surroundings, scores, and the items that changed sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from polm_bench.report.items import Evaluation, align
from polm_bench.report.measure import Figure, bootstrap, figure, gap
from polm_bench.report.notes import differences
from polm_bench.report.records import Record
from polm_bench.stats import Difference, holm

EXAMPLES = 3  # items of each score that got better, and as many that got worse
_GROUPS = ("recipe", "model", "data", "budget", "suite", "seed")
_SURROUNDINGS = ("versions", "git", "model", "data", "machine", "threads")


class Example(NamedTuple):
    """An item on which the two records differ."""

    item: str
    first: float
    second: float
    first_output: str
    second_output: str


class ScoreDiff(NamedTuple):
    """One score in both records; the difference is the second's minus the first's."""

    column: str
    higher_is_better: bool
    headline: bool
    first: Figure
    second: Figure
    difference: Difference | None
    p_holm: float | None  # corrected over the comparison's scores
    gained: int  # items that the second does better
    lost: int
    gains: tuple[Example, ...]
    losses: tuple[Example, ...]
    left_out: int  # items that only one of them has
    other_prompts: int


@dataclass(frozen=True)
class Comparison:
    """What differs between two records."""

    first: Record
    second: Record
    settings: list[tuple[str, Any, Any]]
    surroundings: list[tuple[str, Any, Any]]
    shared_stages: list[str]
    scores: list[ScoreDiff]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "first": _summary(self.first),
            "second": _summary(self.second),
            "settings": [_change(*change) for change in self.settings],
            "surroundings": [_change(*change) for change in self.surroundings],
            "shared_stages": self.shared_stages,
            "scores": [_score_dict(score) for score in self.scores],
        }


def compare(a: Record, b: Record, examples: int = EXAMPLES) -> Comparison:
    """What differs between `a` and `b`; differences of scores are b's minus a's."""
    return Comparison(
        first=a,
        second=b,
        settings=differences(_names(a), _names(b)) + differences(_config(a), _config(b)),
        surroundings=differences(_surroundings(a), _surroundings(b)),
        shared_stages=_shared_stages(a, b),
        scores=_scores(a, b, examples),
    )


def _names(record: Record) -> dict[str, Any]:
    return {name: record.cell[name] for name in _GROUPS}


def _config(record: Record) -> dict[str, Any]:
    """All that the cell's groups set; what a recipe says of itself sets nothing."""
    config = {name: value for name, value in record.cell["config"].items() if name != "seed"}
    if isinstance(config.get("recipe"), dict):
        config["recipe"] = {name: value for name, value in config["recipe"].items() if name != "meta"}
    return config


def _surroundings(record: Record) -> dict[str, Any]:
    return {name: record.data["provenance"].get(name) for name in _SURROUNDINGS}


def _shared_stages(a: Record, b: Record) -> list[str]:
    known = {stage["key"] for stage in a.data["stages"]}
    return [f"{stage['kind']}-{stage['key']}" for stage in b.data["stages"] if stage["key"] in known]


def _scores(a: Record, b: Record, examples: int) -> list[ScoreDiff]:
    draws = bootstrap()
    first, second = Evaluation(a, "self"), Evaluation(b, "self")
    theirs, found = second.scores, []
    for column, score in first.scores.items():
        one, other = figure([first], column, draws), figure([second], column, draws)
        if column not in theirs or one is None or other is None:
            continue
        compared = gap([(second, first)], column, draws)
        better = bool(score["higher_is_better"])
        counts = (0, 0, (), ()) if compared is None else _changed_items(first, second, column, better, examples)
        paired = (None, 0, 0) if compared is None else compared
        found.append(
            ScoreDiff(
                column, better, bool(score["headline"]), one, other, paired[0], None, *counts, paired[1], paired[2]
            )
        )
    corrected = iter(holm([score.difference.p for score in found if score.difference]))
    found = [score._replace(p_holm=next(corrected)) if score.difference else score for score in found]
    return sorted(found, key=lambda score: not score.headline)


def _changed_items(
    first: Evaluation, second: Evaluation, column: str, higher_is_better: bool, examples: int
) -> tuple[int, int, tuple[Example, ...], tuple[Example, ...]]:
    """How many items got better and worse, and the largest changes of either kind."""
    mine, theirs = first.items(column), second.items(column)
    if mine is None or theirs is None:
        return 0, 0, (), ()
    side, back = align([mine, theirs]), align([theirs, mine])
    change = (side.scores[1] - side.scores[0]) * (1 if higher_is_better else -1)
    order = np.argsort(-change, kind="stable")
    up = [int(i) for i in order[:examples] if change[i] > 0]
    down = [int(i) for i in order[::-1][:examples] if change[i] < 0]
    outputs = [one.record.items(one.row) for one in (first, second)] if up or down else []

    def example(i: int) -> Example:
        texts = [
            str(table["output"][int(items.lines[i])])
            for table, items in zip(outputs, (side.first, back.first), strict=True)
        ]
        return Example(str(side.first.ids[i]), float(side.scores[0, i]), float(side.scores[1, i]), texts[0], texts[1])

    return int((change > 0).sum()), int((change < 0).sum()), tuple(map(example, up)), tuple(map(example, down))


def _summary(record: Record) -> dict[str, Any]:
    return {"id": record.id, "path": str(record.path), "status": record.status, "reason": record.data.get("reason")}


def _change(name: str, first: Any, second: Any) -> dict[str, Any]:
    return {"name": name, "first": first, "second": second}


def _score_dict(score: ScoreDiff) -> dict[str, Any]:
    return score._asdict() | {
        "first": score.first._asdict(),
        "second": score.second._asdict(),
        "difference": score.difference._asdict() if score.difference else None,
        "gains": [example._asdict() for example in score.gains],
        "losses": [example._asdict() for example in score.losses],
    }
