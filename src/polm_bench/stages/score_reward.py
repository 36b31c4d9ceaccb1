"""How well a reward foresees what people prefer, how they rate, and where they disagree."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards import Reward
from polm_bench.rewards.learned import Ensemble
from polm_bench.stages.score_pairs import TASK, pair_samples, pair_scores
from polm_bench.stages.scores import score, write


class Judged(NamedTuple):
    """What a reward says of N answers."""

    rewards: list[float]
    unsure: list[float]
    """How unsure it is of each: the standard deviation of an ensemble's members; of a single reward the negative distance from its mean reward."""


@dataclass(frozen=True, config=FORBID)
class ScoreReward(Stage):
    """Scores of a reward on held-out human judgements.

    Of pairs: how often the preferred answer gets the higher reward, overall and by tercile of the margin, and the expected calibration error of
    sigmoid(difference), as `ScorePairs` has them. Of rated answers: Spearman's correlation of the reward with the mean rating, and of how unsure the
    reward is with the raters' standard deviation, where the role tells it.
    """

    reward: Reward
    data: Rows  # role preference
    rated: Rows | None = None  # role rated, or ranking, whose scores stand for mean ratings
    tasks: ClassVar[tuple[str, ...]] = (TASK,)

    def run(self, job: Any) -> None:
        started = time.monotonic()
        judge = _judge(self.reward, job)
        told = self.data.load("validation")
        chosen = judge(told, [row["chosen"] for row in told]).rewards
        rejected = judge(told, [row["rejected"] for row in told]).rewards
        apart = [one - two for one, two in zip(chosen, rejected, strict=True)]
        scores = pair_scores(apart, [row.get("margin") for row in told], "reward")
        if self.rated is not None:
            answers = rated_answers(self.rated.load("validation"))
            found = judge([row for row, *_ in answers], [text for _, text, *_ in answers])
            scores += rating_scores(found, [rating for *_, rating, _ in answers], [spread for *_, spread in answers])
        write(job.out, scores, {TASK: pair_samples(told, apart)})
        job.ledger.add(device_seconds=time.monotonic() - started)


def _judge(reward: Reward, job: Any) -> Any:
    """Rows and an answer to each, to what the reward says of them."""
    import numpy as np

    members = reward.members(job) if isinstance(reward, Ensemble) else [reward.scorer(job)]

    def judge(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> Judged:
        scores = [member(rows, answers) for member in members]
        if isinstance(reward, Ensemble):
            return Judged(reward.combine(scores), np.std(np.array(scores), axis=0).tolist())
        own = np.array(scores[0])
        return Judged(scores[0], (-np.abs(own - own.mean())).tolist())

    return judge


def rated_answers(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str, float, float | None]]:
    """Row, answer, mean rating and the raters' standard deviation, of the roles `rated` and `ranking`."""
    found: list[tuple[Mapping[str, Any], str, float, float | None]] = []
    for row in rows:
        if "responses" in row:
            found += [(row, text, score, None) for text, score in zip(row["responses"], row["scores"], strict=True)]
        else:
            found.append((row, row["completion"], row["rating"], row.get("spread")))
    return found


def rating_scores(judged: Judged, ratings: Sequence[float], spreads: Sequence[float | None]) -> list[dict[str, Any]]:
    """Correlations as scores; that with the spread only where every answer has one."""
    found = [_correlation("rating_correlation", judged.rewards, ratings)]
    known = [spread for spread in spreads if spread is not None]
    if len(known) == len(spreads):
        found.append(_correlation("spread_correlation", judged.unsure, known))
    return [one for one in found if one is not None]


def _correlation(metric: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any] | None:
    """Spearman's rank correlation, its standard error after Bonett and Wright 2000 (Psychometrika 65); None where one side is constant."""
    from scipy.stats import spearmanr

    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    value, n = float(spearmanr(ours, theirs).statistic), len(ours)
    stderr = (1 - value**2) * math.sqrt((1 + value**2 / 2) / (n - 3)) if n > 3 else None
    return score(TASK, metric, value, stderr, n)
