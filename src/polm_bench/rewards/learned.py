"""A reward model's number as the reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.base import Reward, Scorer


@dataclass(frozen=True, config=FORBID)
class Learned(Reward):
    """What a trained reward model says of a prompt and its answer (Ouyang et al. 2022, arXiv:2203.02155, Section 3.5). Its passes are in the ledger."""

    model: Stage

    def scorer(self, job: Any) -> Scorer:
        from polm_bench.models.chat import encode_completions, encode_prompts
        from polm_bench.models.head import load_reward_model, score_answers
        from polm_bench.models.load import load_tokenizer
        from polm_bench.probes.flops import count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_reward_model(folder, "float32", job.device)
        flops = count_flops(model)

        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
            completions = encode_completions(tokenizer, answers)
            sequences = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
            job.ledger.add(
                tokens_scored=sum(map(len, sequences)), flops=sum(flops.score(len(ids)) for ids in sequences)
            )
            return score_answers(model, sequences, tokenizer.pad_token_id, job.launch.micro_batch, job.device)

        return score
