"""Next-token training: on plain text, and on the answers to prompts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.roles import Row
from polm_bench.data.source import Rows
from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.models.tuning import Look, Training, Tuning
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.trainers.fit import Cost


@dataclass(frozen=True, config=FORBID)
class NextToken(Stage):
    """Next-token training: what its kinds have in common.

    With an adapter the base stays as it is, and the output is either a whole model or a folder with the adapter alone, to be folded in by
    `FoldAdapter` or put beside the base by `AttachAdapter`.
    """

    init: Stage
    data: Rows
    spend: Spend
    optim: Optim
    seed: int
    adapter: Tuning | None = None
    parallel: ClassVar[bool] = True
    warm: Stage | None = None  # an earlier training of the same adapter, from whose weights this one goes on

    def token_rows(self, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[dict[str, list[int]]]:
        """Token ids and labels of rows of the data."""
        raise TypeError(f"{type(self).__name__} does not say what it reads")

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD

        tokenizer = load_tokenizer(job.path(self.init))
        rows = self.token_rows(tokenizer, self.data.read(job, "train"))
        model = load_model(job.path(self.init), "float32", job.device)
        set_seed(self.seed)
        if self.adapter is None:
            _train(self, job, model, tokenizer, rows)
            save_model(model, tokenizer, job.out)
        else:
            model = self.adapter.attach(model)
            if self.warm is not None:
                self.adapter.warm(model, job.path(self.warm))
            _train(self, job, model, tokenizer, rows)
            self.adapter.finish(model)
            self.adapter.save(model, tokenizer, job.out)
        job.ledger.note(flops_method=METHOD, served_bytes=weight_bytes(job.out))


@dataclass(frozen=True, config=FORBID)
class TrainSFT(NextToken):
    """Supervised fine-tuning on the role `sft`: the loss counts the completion's tokens only, each token alike."""

    def token_rows(self, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[dict[str, list[int]]]:
        return completion_rows(tokenizer, rows, self.spend.max_length)


@dataclass(frozen=True, config=FORBID)
class TrainText(NextToken):
    """Next-token training on the role `corpus`: texts joined by the end-of-text token and cut into rows of `max_length` tokens, none padded."""

    def token_rows(self, tokenizer: PreTrainedTokenizerBase, rows: list[Row]) -> list[dict[str, list[int]]]:
        return packed_rows(tokenizer, [row["text"] for row in rows], self.spend.max_length)


def _train(
    stage: NextToken,
    job: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, list[int]]],
) -> None:
    """Train `model` in place, with the rows that an adapter must see first taken out of the budget."""
    from polm_bench.probes.flops import count_flops
    from polm_bench.trainers.base import PadRight, ScheduledTrainer
    from polm_bench.trainers.fit import Cost, fit
    from polm_bench.trainers.schedule import schedule
    from polm_bench.trainers.tuned import TunedTrainer

    flops = count_flops(model)
    lengths = [len(row["input_ids"]) for row in rows]
    cost = Cost(lengths, [flops.train(length) for length in lengths])
    spend, pad = stage.spend, PadRight(tokenizer.pad_token_id)
    seen: list[int] = []
    tuning = stage.adapter
    if tuning is not None and job.processes > 1 and job.launch.in_shares:
        raise BadOverride(
            f"launch={job.launch.name} trains a whole model in shares, and {type(tuning).__name__} trains a part: take launch=multi_gpu"
        )
    if tuning is not None and tuning.look is not None:
        seen, used = looked_at(tuning.look, cost, spend, stage.seed)
        job.ledger.add(tokens_trained=sum(cost.tokens[row] for row in seen), flops=sum(cost.flops[row] for row in seen))
        spend = replace(spend, amount=spend.amount - used)
    plan = schedule(lengths, cost.in_unit(spend.unit), spend, stage.seed, job.launch.micro_batch)
    make = partial(ScheduledTrainer, data_collator=pad, processing_class=tokenizer)
    if tuning is not None:
        batches = [{name: value.to(model.device) for name, value in pad([rows[row]]).items()} for row in seen]
        tuning.begin(model, Training(plan.steps, plan.accumulation, spend.unit == "seconds", batches))
        make = partial(TunedTrainer, tuning=tuning, data_collator=pad, processing_class=tokenizer)
    fit(job, make, model, rows, cost, plan, spend, stage.optim, stage.seed)
    if tuning is not None:
        job.ledger.note(asked={spend.unit: stage.spend.amount}, trainable_params=tuning.trained(model))


def looked_at(look: Look, cost: Cost, spend: Spend, seed: int) -> tuple[list[int], float]:
    """Rows that are looked at before training starts, at least one, and what of the spend they take.

    A row of a budget in steps is its part of a batch; one in seconds loses the whole share, as nobody knows how long a row takes.
    """
    from polm_bench.trainers.schedule import schedule

    whole = spend.amount * look.share
    price = [1 / spend.batch] * len(cost.tokens) if spend.unit == "steps" else cost.in_unit(spend.unit)
    order = schedule(cost.tokens, cost.in_unit(spend.unit), replace(spend, amount=whole), seed, 1).micro_batches
    rows = [row for batch in order[: look.rows] for row in batch]
    if spend.unit == "seconds":
        return rows, whole
    reached = itertools.accumulate(price[row] for row in rows)
    rows = rows[: max(1, sum(used <= whole for used in reached))]
    return rows, float(sum(price[row] for row in rows))


def completion_rows(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], max_length: int
) -> list[dict[str, list[int]]]:
    """Token rows of prompt and completion; labels are -100 on the prompt."""
    from polm_bench.models.chat import encode_completions, encode_prompts, join

    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    answers = encode_completions(tokenizer, [row["completion"] for row in rows])
    joined = [join(prompt, answer, max_length) for prompt, answer in zip(prompts, answers, strict=True)]
    return [
        {
            "input_ids": row.ids,
            "labels": [-100] * (len(row.ids) - row.completion) + row.ids[len(row.ids) - row.completion :],
        }
        for row in joined
    ]


def packed_rows(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int) -> list[dict[str, list[int]]]:
    """Token rows of exactly `max_length`; what is left over at the end is dropped."""
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    if not isinstance(end, int) or end == tokenizer.unk_token_id:
        end = tokenizer.eos_token_id
    stream: list[int] = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        stream.extend(ids)
        stream.append(end)
    rows = [stream[start : start + max_length] for start in range(0, len(stream) - max_length + 1, max_length)]
    return [{"input_ids": row, "labels": row} for row in rows]
