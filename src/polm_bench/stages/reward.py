"""Reward models: pairs labelled by a judge, and training on pairs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.reward import BradleyTerry, KeepWriting
from polm_bench.rewards.judge import Judge
from polm_bench.stages.generate import Spent
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polm_bench.trainers.reward import JudgedPair

PAIRS = "pairs.json"
PROMPTS_A_TIME = 128  # of one sampling at most; part of what is drawn


@dataclass(frozen=True, config=FORBID)
class LabelPairs(Stage):
    """Two answers of a model to each prompt, and a judge's share for the first: `pairs.json`.

    Lee et al. 2024 (arXiv:2309.00267), Section 2: the pairs are the SFT model's own. It samples until the generated tokens reach the spend
    (for steps: `batch` pairs a step). How often the judge agrees with the human labels of `labelled` is noted, where there are any.
    """

    version: ClassVar[int] = 2
    model: Stage
    data: Rows
    judge: Judge
    temperature: float
    spend: Spend
    seed: int
    labelled: Rows | None = None

    def run(self, job: Any) -> None:
        from polm_bench.decoding.sample import Sampling, sample
        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops

        started = time.monotonic()
        tokenizer = load_tokenizer(job.path(self.model))
        model = load_model(job.path(self.model), job.launch.dtype, job.device)
        compare = self.judge.comparer(job)
        flops = count_flops(model)
        rows = self.data.load("train")
        how = Sampling(max_new_tokens=self.spend.max_length // 2, temperature=self.temperature)
        found: list[dict[str, Any]] = []
        meter = Spent(self.spend, how.max_new_tokens, count=2)
        round_ = 0
        while meter.share() < 1:
            chosen = _prompts(len(rows), self.seed, len(found), max(1, meter.affords(2 * PROMPTS_A_TIME) // 2))
            asked = [rows[row] for row in chosen]
            prompts = [
                ids[-(self.spend.max_length // 2) :] for ids in encode_prompts(tokenizer, [r["prompt"] for r in asked])
            ]
            answers = sample(model, tokenizer, prompts, how, count=2, seed=self.seed * 1_000_003 + round_)
            job.ledger.add(
                tokens_generated=sum(len(one.ids) for pair in answers for one in pair),
                flops=sum(
                    flops.generate(len(ids), len(one.ids))
                    for ids, pair in zip(prompts, answers, strict=True)
                    for one in pair
                ),
            )
            first, second = ([pair[side].text for pair in answers] for side in (0, 1))
            for row, one, two, share in zip(asked, first, second, compare(asked, first, second), strict=True):
                found.append({"prompt": row["prompt"], "chosen": one, "rejected": two, "share": share})
            round_ += 1
            meter.answers, meter.seconds = 2 * len(found), time.monotonic() - started
            meter.tokens, meter.flops = int(job.ledger.amounts["tokens_generated"]), job.ledger.amounts["flops"]
            job.progress(min(1.0, meter.share()), 1, "of the budget")
        (job.out / PAIRS).write_text(json.dumps(found))
        job.ledger.add(device_seconds=time.monotonic() - started)
        job.ledger.note(flops_method=METHOD, pairs=len(found), **self._agreement(compare))

    def _agreement(self, compare: Any) -> dict[str, float]:
        if self.labelled is None:
            return {}
        rows = self.labelled.load("validation")
        shares = compare(rows, [row["chosen"] for row in rows], [row["rejected"] for row in rows])
        return {"judge_agreement": sum(float(s > 0.5) + 0.5 * float(s == 0.5) for s in shares) / len(shares)}


def _prompts(count: int, seed: int, start: int, wanted: int) -> list[int]:
    """Row numbers at `wanted` places from `start` on of permutations joined end to end."""
    import numpy as np

    return [
        int(np.random.default_rng([seed, place // count]).permutation(count)[place % count])
        for place in range(start, start + wanted)
    ]


@dataclass(frozen=True, config=FORBID)
class TrainReward(Stage):
    """A reward model from `init`: its output layer is replaced by a head of one number. Writes a model folder that writes no text.

    Learns from the role `preference`, or from pairs that a judge labelled; `more` adds pairs of the second kind to either. With `text` it keeps
    writing the preferred answers too.
    """

    init: Stage
    data: Rows | LabelPairs
    loss: BradleyTerry
    spend: Spend
    optim: Optim
    seed: int
    more: tuple[LabelPairs, ...] = ()
    text: KeepWriting | None = None
    parallel: ClassVar[bool] = True

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.head import with_fresh_head, writing_head
        from polm_bench.models.load import load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.fit import Cost, fit
        from polm_bench.trainers.reward import RewardTrainer
        from polm_bench.trainers.schedule import schedule

        tokenizer = load_tokenizer(job.path(self.init))
        set_seed(self.seed)
        model = with_fresh_head(job.path(self.init), job.device)
        rows = judged_pairs(tokenizer, self._told(job), self.spend.max_length)
        flops = count_flops(model)
        head = writing_head(job.path(self.init), model, job.device) if self.text is not None else None
        words = (
            6 * head.numel() if head is not None else 0
        )  # forwards and backwards, for each token of a preferred answer
        lengths = [len(row["first"]) + len(row["second"]) for row in rows]
        per_row = [
            flops.train(len(row["first"])) + flops.train(len(row["second"])) + words * row["first_len"] for row in rows
        ]
        cost = Cost(lengths, per_row)
        plan = schedule(
            lengths, cost.in_unit(self.spend.unit), self.spend, self.seed, max(1, job.launch.micro_batch // 2)
        )
        make = partial(RewardTrainer, loss=self.loss, pad_id=model.config.pad_token_id, text=self.text, head=head)
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))

    def _told(self, job: Any) -> list[dict[str, Any]]:
        """Rows of all sources."""
        labelled = [*([self.data] if isinstance(self.data, LabelPairs) else []), *self.more]
        told = [] if isinstance(self.data, LabelPairs) else self.data.read(job, "train")
        pairs = [row for stage in labelled for row in json.loads((job.path(stage) / PAIRS).read_text())]
        if told and pairs:  # a margin that only some rows have can't be read
            told = [{name: value for name, value in row.items() if name != "margin"} for row in told]
        return [*told, *pairs]


def judged_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], max_length: int
) -> list[JudgedPair]:
    """Token rows of the role `preference`, or of a judge's pairs, which have a share too."""
    from polm_bench.models.chat import encode_completions, encode_prompts, join

    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    chosen = encode_completions(tokenizer, [row["chosen"] for row in rows])
    rejected = encode_completions(tokenizer, [row["rejected"] for row in rows])
    made: list[JudgedPair] = []
    for row, prompt, one, two in zip(rows, prompts, chosen, rejected, strict=True):
        a, b = join(prompt, one, max_length), join(prompt, two, max_length)
        pair: JudgedPair = {
            "first": a.ids,
            "first_len": a.completion,
            "second": b.ids,
            "second_len": b.completion,
            "share": float(row.get("share", 1.0)),
        }
        if "margin" in row:
            pair["margin"] = float(row["margin"])
        made.append(pair)
    return made
