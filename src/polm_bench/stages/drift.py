"""How far a model has moved from where it started, and what it gained by that."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards import Reward
from polm_bench.rewards.judge import Judge
from polm_bench.stages.scores import mean_score, sample, write

if TYPE_CHECKING:
    from torch import Tensor

    from polm_bench.decoding.sample import Answer

TASK = "drift"
LOWER_IS_BETTER = ("kl_k1", "kl_k3", "repetition")


@dataclass(frozen=True, config=FORBID)
class Drift(Stage):
    """Reward of drawn answers to held-out prompts, and their divergence from the start model.

    `kl_k1` and `kl_k3` are estimates of KL(model || start) per answer, in nats, from the model's own samples at temperature 1 and at most
    `max_new_tokens` tokens: the sum over tokens of log model - log start, and of its k3 form (`objectives.ppo.kl`); both are unbiased, k3 is never
    negative. `win_rate` is the judge's share for the answer against one of the start to the same prompt; `win_rate_true` the rate that people would
    tell, with the judge's own noise in its standard error. `reward_start` is the reward of the start's answers, and `repetition` the share of an
    answer's word pairs that it has had before.
    """

    model: Stage
    start: Stage
    data: Rows
    reward: Reward
    prompts: PositiveInt
    count: PositiveInt  # answers to a prompt
    max_new_tokens: PositiveInt
    seed: int
    judge: Judge | None = None
    labelled: Rows | None = None  # role preference: on which the judge's noise is measured
    tasks: ClassVar[tuple[str, ...]] = (TASK,)

    def run(self, job: Any) -> None:
        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops

        started = time.monotonic()
        tokenizer = load_tokenizer(job.path(self.model))
        model = load_model(job.path(self.model), "float32", job.device)
        start = load_model(job.path(self.start), "float32", job.device)
        rows = self.data.load("validation")[: self.prompts]
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
        answers, others = (self._drawn(each, tokenizer, prompts, job) for each in (model, start))
        flat = [(row, prompt, one) for row, prompt, group in zip(rows, prompts, answers, strict=True) for one in group]
        asked = [(prompt, one.ids) for _, prompt, one in flat]
        values = divergences(model, start, asked, tokenizer.pad_token_id, job)
        texts, given = [one.text for *_, one in flat], [row for row, *_ in flat]
        values["reward"] = self.reward.scorer(job)(given, texts)
        values["tokens"] = [float(len(one.ids)) for *_, one in flat]
        values["ended"] = [float(one.ended) for *_, one in flat]
        values["repetition"] = [repetition(text) for text in texts]
        theirs = [one.text for group in others for one in group]
        values["reward_start"] = self.reward.scorer(job)(given, theirs)
        if self.judge is not None:
            values["win_rate"] = self.judge.comparer(job)(given, texts, theirs)
        scores = [
            mean_score(
                TASK,
                name,
                self._by_prompt(each),
                higher_is_better=name not in LOWER_IS_BETTER,
                headline=name == "reward",
            )
            for name, each in values.items()
        ]
        if "win_rate" in values:
            scores += self._trusted(job, next(one for one in scores if one["metric"] == "win_rate"))
        self._write(job, rows, texts, values, scores)
        lengths = [len(prompt) + len(ids) for prompt, ids in asked]
        flops = count_flops(model)
        job.ledger.add(
            tokens_generated=sum(len(one.ids) for group in (*answers, *others) for one in group),
            tokens_scored=2 * sum(lengths),
            flops=2 * sum(map(flops.score, lengths))
            + sum(
                flops.generate(len(prompt), len(one.ids))
                for drawn in (answers, others)
                for prompt, group in zip(prompts, drawn, strict=True)
                for one in group
            ),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)

    def _drawn(self, model: Any, tokenizer: Any, prompts: list[list[int]], job: Any) -> list[list[Answer]]:
        """Answers to each prompt; both models get the same random numbers."""
        from polm_bench.decoding.sample import Sampling
        from polm_bench.decoding.sample import sample as drawn

        how = Sampling(max_new_tokens=self.max_new_tokens, temperature=1.0)
        return drawn(model, tokenizer, prompts, how, count=self.count, seed=self.seed, progress=job.progress)

    def _by_prompt(self, values: Sequence[float]) -> list[float]:
        """Means over the answers to each prompt, which are not independent of each other."""
        return [
            math.fsum(values[start : start + self.count]) / self.count for start in range(0, len(values), self.count)
        ]

    def _trusted(self, job: Any, won: dict[str, Any]) -> list[dict[str, Any]]:
        """The win rate with the judge's noise, where its agreement with people was measured and is better than a coin's."""
        from polm_bench.rewards.noise import Rate, corrected, trust

        if self.judge is None or self.labelled is None or won["stderr"] is None:
            return []
        told = self.labelled.load("validation")
        rate = trust(self.judge.orders(job), told).rate()
        job.ledger.note(judge_agreement=rate)
        true = corrected(Rate(won["value"], won["stderr"]), rate, len(told))
        return [] if true is None else [won | {"metric": "win_rate_true", "value": true.value, "stderr": true.stderr}]

    def _write(
        self, job: Any, rows: list[Any], texts: list[str], values: dict[str, list[float]], scores: list[dict[str, Any]]
    ) -> None:
        samples = [
            sample(
                number,
                rows[number // self.count]["prompt"],
                {name: each[number] for name, each in values.items()},
                text,
                {"id": f"{number // self.count}-{number % self.count}", "cluster": str(number // self.count)},
            )
            for number, text in enumerate(texts)
        ]
        write(job.out, scores, {TASK: samples})


def divergences(
    model: Any, start: Any, asked: Sequence[tuple[list[int], list[int]]], pad_id: int, job: Any
) -> dict[str, list[float]]:
    """Estimates of KL(model || start) from each answer (prompt and answer as token ids) that `model` wrote at temperature 1, in nats."""
    import torch

    from polm_bench.trainers.tokens import collate, token_view

    found: dict[str, list[float]] = {"kl_k1": [0.0] * len(asked), "kl_k3": [0.0] * len(asked)}
    order = sorted(range(len(asked)), key=lambda i: -len(asked[i][0]) - len(asked[i][1]))
    size = job.launch.micro_batch
    with torch.inference_mode():
        for first in range(0, len(order), size):
            part = order[first : first + size]
            batch = collate([asked[i] for i in part], pad_id, job.device)
            logps, theirs = (token_view(each, batch, 1.0).logps for each in (model, start))
            for name, sums in sequence_kl(logps, theirs, batch.mask).items():
                for i, value in zip(part, sums.tolist(), strict=True):
                    found[name][i] = value
    return found


def sequence_kl(logps: Tensor, start: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Per answer [N], from log-probs of its tokens under both models and the mask of its tokens, all [N, T]."""
    from polm_bench.objectives.ppo import kl

    return {f"kl_{name}": (kl(logps, start, name) * mask).sum(1) for name in ("k1", "k3")}  # type: ignore[arg-type]


def repetition(text: str) -> float:
    """Share of the word pairs of a text that it has had before; 0 for fewer than two words."""
    words = text.lower().split()
    pairs = list(itertools.pairwise(words))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0
