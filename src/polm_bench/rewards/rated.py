"""A model's own marks for answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import judgement
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards.base import Reward, Scorer


@dataclass(frozen=True, config=FORBID)
class Rated(Reward):
    """How many points a language model gives an answer when it is asked.

    Yuan et al. 2024 (Self-Rewarding, arXiv:2401.10020), Section 2.1 and Figure 2: 0 to 5 points. There three judgements are drawn and averaged
    (Section 3.1.3); here it is their mean over all draws, the points weighted by the model's probabilities for the next token.
    """

    model: Stage
    question: str  # with {prompt} and {answer}; the number of points is the answer to it
    points: PositiveInt  # at most 9: one digit

    def scorer(self, job: Any) -> Scorer:
        import torch

        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        flops = count_flops(model)
        marks = [tokenizer(str(point), add_special_tokens=False)["input_ids"][-1] for point in range(self.points + 1)]
        values = torch.arange(self.points + 1.0)

        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            asked = [judgement(row, answer, self.question) for row, answer in zip(rows, answers, strict=True)]
            prompts = encode_prompts(tokenizer, asked)
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
                    found.extend((last[:, marks].float().softmax(-1).cpu() @ values).tolist())
            return found

        return score
