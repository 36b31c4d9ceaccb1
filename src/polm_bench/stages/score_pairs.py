"""How well a reward model foresees human judgements."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.reward import judged_pairs
from polm_bench.stages.scores import mean_score, sample, score, write

if TYPE_CHECKING:
    from pathlib import Path

    from polm_bench.trainers.reward import JudgedPair

TASK = "reward_pairs"
BINS = 10  # of the calibration error; Guo et al. 2017 (arXiv:1706.04599), Section 5, take 15 on ten times the items


@dataclass(frozen=True, config=FORBID)
class ScorePairs(Stage):
    """How often the preferred answer of held-out human pairs gets the higher number, overall and by margin, and how well that is foreseen.

    `by="reward"` asks a reward model; `by="likelihood"` a language model for its mean log-prob per token, what it knows of taste before any
    reward was learnt. Margins are cut at their terciles. The expected calibration error (Guo et al. 2017, arXiv:1706.04599, Eq. 3) is that
    of sigmoid(difference) as the probability that the preferred answer is the better one.
    """

    model: Stage
    data: Rows
    max_length: int
    by: Literal["reward", "likelihood"]
    tasks: ClassVar[tuple[str, ...]] = (TASK,)

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_tokenizer

        started = time.monotonic()
        told = self.data.load("validation")
        rows = judged_pairs(load_tokenizer(job.path(self.model)), told, self.max_length)
        apart = self._differences(job, rows)
        scores = pair_scores(apart, [row.get("margin") for row in rows], self.by)
        write(job.out, scores, {TASK: pair_samples(told, apart)})
        job.ledger.add(
            tokens_scored=sum(len(row["first"]) + len(row["second"]) for row in rows),
            device_seconds=time.monotonic() - started,
        )

    def _differences(self, job: Any, rows: list[JudgedPair]) -> list[float]:
        """Number of the preferred answer less that of the other one, per row."""
        from polm_bench.models.head import load_reward_model, score_answers

        folder: Path = job.path(self.model)
        if self.by == "likelihood":
            return _likelihood_differences(folder, rows, job)
        model = load_reward_model(folder, job.launch.dtype, job.device)
        sequences = [row["first"] for row in rows] + [row["second"] for row in rows]
        rewards = score_answers(model, sequences, job.launch.micro_batch, job.device)
        return [one - two for one, two in zip(rewards[: len(rows)], rewards[len(rows) :], strict=True)]


def _likelihood_differences(folder: Path, rows: list[JudgedPair], job: Any) -> list[float]:
    import torch

    from polm_bench.models.load import load_model, load_tokenizer
    from polm_bench.trainers.pair import PairCollator, sequence_logps

    model = load_model(folder, job.launch.dtype, job.device)
    collate = PairCollator(load_tokenizer(folder).pad_token_id)
    size = max(1, job.launch.micro_batch // 2)
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            batch = {name: value.to(job.device) for name, value in collate(rows[start : start + size]).items()}
            logps, lengths = sequence_logps(model, batch)
            one, two = (logps / lengths).chunk(2)
            found.extend((one - two).tolist())
    return found


def pair_samples(told: Sequence[Mapping[str, Any]], apart: Sequence[float]) -> list[dict[str, Any]]:
    """Items of the task."""
    return [
        sample(number, row["prompt"], {"accuracy": _right(difference)}, f"{difference:.4f}")
        for number, (row, difference) in enumerate(zip(told, apart, strict=True))
    ]


def _right(difference: float) -> float:
    return 0.5 if difference == 0 else float(difference > 0)


def pair_scores(apart: Sequence[float], margins: Sequence[float | None], by: str) -> list[dict[str, Any]]:
    """Scores of `scores.json`; accuracy by tercile of the margin where every pair has one, calibration for rewards."""
    import numpy as np

    right = np.array([_right(difference) for difference in apart])
    found = accuracies(TASK, right, margins)
    if by == "reward":
        error = calibration_error(np.array(apart))
        found.append(score(TASK, "ece", error, None, len(right), higher_is_better=False))
    return found


def accuracies(task: str, right: Any, margins: Sequence[float | None]) -> list[dict[str, Any]]:
    """Mean of what is right, over all pairs and in each bin of the margin."""
    bins = [
        mean_score(task, f"accuracy_{name}_margin", right[chosen].tolist())
        for name, chosen in margin_bins(margins).items()
    ]
    return [mean_score(task, "accuracy", right.tolist(), headline=True), *bins]


def margin_bins(margins: Sequence[float | None]) -> dict[str, Any]:
    """Which pairs are in the low, middle and high tercile of the margin; none where some pair has no margin, and no empty ones."""
    import numpy as np

    if any(margin is None for margin in margins):
        return {}
    known = np.array(margins, dtype=float)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    bins = {"low": known <= low, "middle": (known > low) & (known <= high), "high": known > high}
    return {name: chosen for name, chosen in bins.items() if chosen.any()}


def calibration_error(apart: Any) -> float:
    """Expected calibration error of sigmoid(|difference|) as the confidence in the answer with the higher number."""
    import numpy as np

    confidence = 1 / (1 + np.exp(-np.abs(apart)))
    right = (apart > 0) + 0.5 * (apart == 0)
    place = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = [
        abs(right[place == bin_].mean() - confidence[place == bin_].mean()) * (place == bin_).mean()
        for bin_ in range(BINS)
        if (place == bin_).any()
    ]
    return float(sum(gaps))
