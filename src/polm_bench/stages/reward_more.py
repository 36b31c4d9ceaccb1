"""Reward models from ratings, and several reward models as one."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.reward import SquaredError
from polm_bench.stages.reward import TrainReward
from polm_bench.trainers.optim import Optim


@dataclass(frozen=True, config=FORBID)
class TrainRatings(Stage):
    """A reward model from `init` by regression on the scores of the role `ranking`: a head of one number, as `TrainReward` has it."""

    init: Stage
    data: Rows
    loss: SquaredError
    spend: Spend
    optim: Optim
    seed: int
    parallel: ClassVar[bool] = True

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.chat import encode_completions, encode_prompts, join
        from polm_bench.models.head import with_fresh_head
        from polm_bench.models.load import load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.fit import Cost, fit
        from polm_bench.trainers.reward import RatedAnswer, RatingTrainer
        from polm_bench.trainers.schedule import schedule

        tokenizer = load_tokenizer(job.path(self.init))
        set_seed(self.seed)
        model = with_fresh_head(job.path(self.init), job.device)
        told = self.data.read(job, "train")
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in told])
        rows: list[RatedAnswer] = [
            {"ids": join(prompt, answer, self.spend.max_length).ids, "rating": float(rating)}
            for row, prompt in zip(told, prompts, strict=True)
            for answer, rating in zip(encode_completions(tokenizer, row["responses"]), row["scores"], strict=True)
        ]
        flops = count_flops(model)
        lengths = [len(row["ids"]) for row in rows]
        cost = Cost(lengths, [flops.train(length) for length in lengths])
        plan = schedule(lengths, cost.in_unit(self.spend.unit), self.spend, self.seed, job.launch.micro_batch)
        make = partial(RatingTrainer, loss=self.loss, pad_id=model.config.pad_token_id)
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))


@dataclass(frozen=True, config=FORBID)
class JoinRewards(Stage):
    """Several reward models in folders 0, 1, ... of one; their files are linked where the disk can, so that they take no more room."""

    members: Annotated[tuple[TrainReward, ...], Field(min_length=2)]

    def run(self, job: Any) -> None:
        from polm_bench.models.load import weight_bytes

        folders = [job.path(member) for member in self.members]
        for number, folder in enumerate(folders):
            shutil.copytree(
                folder, job.out / str(number), copy_function=_link, ignore=shutil.ignore_patterns("manifest.json")
            )
        job.ledger.note(served_bytes=sum(map(weight_bytes, folders)))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
