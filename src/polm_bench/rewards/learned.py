"""A reward model's number as the reward."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.base import Reward, Scorer


@dataclass(frozen=True, config=FORBID)
class Learned(Reward):
    """What a trained reward model says of a prompt and its answer (Ouyang et al. 2022, arXiv:2203.02155, Section 3.5). Its passes are in the ledger."""

    model: Stage

    def scorer(self, job: Any) -> Scorer:
        return _scorer(job, job.path(self.model))


@dataclass(frozen=True, config=FORBID)
class Ensemble(Reward):
    """What several reward models say together.

    Coste et al. 2024 (arXiv:2310.02743): `mean` is the members' mean, `worst` their minimum (there WCO), `uncertain` their mean less `weight` times
    their variance (UWO), which is over K members, in the authors' code (tlc4418/llm_optimization, ppo_reward_functions.py) over K - 1.
    """

    joined: Stage  # reward models in folders 0, 1, ... of one
    how: Literal["mean", "worst", "uncertain"]
    weight: float = Field(default=0.0, ge=0)  # of the variance, per unit of reward; only `uncertain` reads it

    def members(self, job: Any) -> list[Scorer]:
        """The judgement of each member."""
        folders = sorted(
            (path for path in job.path(self.joined).iterdir() if path.is_dir()), key=lambda path: int(path.name)
        )
        return [_scorer(job, folder) for folder in folders]

    def combine(self, scores: Sequence[Sequence[float]]) -> list[float]:
        """One number per answer, from those of every member."""
        match self.how:
            case "mean":
                return [statistics.fmean(each) for each in zip(*scores, strict=True)]
            case "worst":
                return [min(each) for each in zip(*scores, strict=True)]
            case "uncertain":
                return [
                    statistics.fmean(each) - self.weight * statistics.pvariance(each)
                    for each in zip(*scores, strict=True)
                ]

    def scorer(self, job: Any) -> Scorer:
        members = self.members(job)

        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            return self.combine([member(rows, answers) for member in members])

        return score


def _scorer(job: Any, folder: Path) -> Scorer:
    """The judgement of the reward model in a folder."""
    from polm_bench.models.chat import encode_completions, encode_prompts
    from polm_bench.models.head import load_reward_model, score_answers
    from polm_bench.models.load import load_tokenizer
    from polm_bench.probes.flops import count_flops

    tokenizer = load_tokenizer(folder)
    model = load_reward_model(folder, "float32", job.device)
    flops = count_flops(model)

    def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
        completions = encode_completions(tokenizer, answers)
        sequences = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
        job.ledger.add(tokens_scored=sum(map(len, sequences)), flops=sum(flops.score(len(ids)) for ids in sequences))
        return score_answers(model, sequences, job.launch.micro_batch, job.device)

    return score
