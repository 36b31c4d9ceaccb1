"""Judges: which of two answers is better, without a human."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.base import Reward

Comparer = Callable[[Sequence[Mapping[str, Any]], Sequence[str], Sequence[str]], list[float]]
"""Rows and two answers to each, to the share of judgements (0 to 1) that the first is the better one."""


BothOrders = Callable[[Sequence[Mapping[str, Any]], Sequence[str], Sequence[str]], list[tuple[float, float]]]
"""As `Comparer`: the share for the first answer where it was shown first, and where it was shown second."""


@dataclass(frozen=True, config=FORBID)
class Judge:
    """A judgement of pairs. Its fields are its identity; a stage among them is an input."""

    version: ClassVar[int] = 1
    role: ClassVar[str] = "prompts"
    """Data role whose prompts it judges answers to."""

    def orders(self, job: Any) -> BothOrders:
        """The judgement in both orders, with whatever it needs loaded once."""
        raise TypeError(f"{type(self).__name__} does not say how it judges")

    def comparer(self, job: Any) -> Comparer:
        """The mean of both orders, since a judge may lean to a position."""
        orders = self.orders(job)

        def compare(rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
            return [(there + back) / 2 for there, back in orders(rows, firsts, seconds)]

        return compare


@dataclass(frozen=True, config=FORBID)
class RewardJudge(Judge):
    """The answer with the higher reward. It sees each answer alone, so it has no order to prefer."""

    reward: Reward
    scale: float | None = Field(default=None, gt=0)  # share = sigmoid(scale * difference); null: 1, 0, or 1/2 for a tie

    def orders(self, job: Any) -> BothOrders:
        score = self.reward.scorer(job)

        def share(difference: float) -> float:
            if self.scale is None:
                return 0.5 if difference == 0 else float(difference > 0)
            return 1 / (1 + math.exp(-self.scale * difference))

        def compare(
            rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]
        ) -> list[tuple[float, float]]:
            pairs = zip(score(rows, firsts), score(rows, seconds), strict=True)
            shares = [share(first - second) for first, second in pairs]
            return list(zip(shares, shares, strict=True))

        return compare


@dataclass(frozen=True, config=FORBID)
class ModelJudge(Judge):
    """A language model that is asked which of two answers is better, once in each order.

    Lee et al. 2024 (arXiv:2309.00267), Section 2.1: the log-probs of "1" and "2" after the question, softmax over the two; Section 2.1.1: the
    mean over both orders, since a judge leans to a position.
    """

    model: Stage
    question: str  # with {prompt}, {first} and {second}; it ends where "1" or "2" follows

    def orders(self, job: Any) -> BothOrders:
        import torch

        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        flops = count_flops(model)
        one, two = (tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in ("1", "2"))

        def asked(rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]) -> list[float]:
            texts = [
                self.question.format(prompt=row["prompt"][-1]["content"], first=first, second=second)
                for row, first, second in zip(rows, firsts, seconds, strict=True)
            ]
            prompts = encode_prompts(tokenizer, [[{"role": "user", "content": text}] for text in texts])
            job.ledger.add(tokens_scored=sum(map(len, prompts)), flops=sum(flops.score(len(ids)) for ids in prompts))
            found: list[float] = []
            with torch.inference_mode():
                for start in range(0, len(prompts), job.launch.micro_batch):
                    batch = tokenizer.pad(
                        {"input_ids": prompts[start : start + job.launch.micro_batch]},
                        padding_side="right",
                        return_tensors="pt",
                    ).to(job.device)
                    logits = model(**batch, use_cache=False).logits
                    last = logits[torch.arange(len(logits)), batch["attention_mask"].sum(1) - 1]
                    found.extend((last[:, one] - last[:, two]).float().sigmoid().tolist())
            return found

        def compare(
            rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]
        ) -> list[tuple[float, float]]:
            there, back = asked(rows, firsts, seconds), asked(rows, seconds, firsts)
            return [(a, 1 - b) for a, b in zip(there, back, strict=True)]

        return compare


def count(job: Any, **more: int) -> None:
    """Add to notes of the ledger that are counts."""
    job.ledger.note(**{name: job.ledger.notes.get(name, 0) + number for name, number in more.items()})
