"""Next-token training: on plain text, and on the answers to prompts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.models.adapter import Adapter
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=FORBID)
class TrainSFT(Stage):
    """Supervised fine-tuning on the role `sft`: the loss counts the completion's tokens only, each token alike.

    With an adapter the base stays as it is and the output is a folder with the adapter, to be folded in by `FoldAdapter`.
    """

    init: Stage
    data: Rows
    spend: Spend
    optim: Optim
    seed: int
    adapter: Adapter | None = None

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer

        tokenizer = load_tokenizer(job.path(self.init))
        rows = completion_rows(tokenizer, self.data.read(job, "train"), self.spend.max_length)
        _train(self, job, load_model(job.path(self.init), "float32", job.device), tokenizer, rows)


@dataclass(frozen=True, config=FORBID)
class TrainText(Stage):
    """Next-token training on the role `corpus`: texts joined by the end-of-text token and cut into rows of `max_length` tokens, none padded."""

    init: Stage
    data: Rows
    spend: Spend
    optim: Optim
    seed: int
    adapter: Adapter | None = None

    def run(self, job: Any) -> None:
        from polm_bench.models.load import load_model, load_tokenizer

        tokenizer = load_tokenizer(job.path(self.init))
        rows = packed_rows(tokenizer, [row["text"] for row in self.data.read(job, "train")], self.spend.max_length)
        _train(self, job, load_model(job.path(self.init), "float32", job.device), tokenizer, rows)


def _train(
    stage: TrainSFT | TrainText,
    job: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, list[int]]],
) -> None:
    from transformers import set_seed

    from polm_bench.models.load import save_model, weight_bytes
    from polm_bench.probes.flops import METHOD, count_flops
    from polm_bench.trainers.base import PadRight, ScheduledTrainer
    from polm_bench.trainers.fit import Cost, fit
    from polm_bench.trainers.schedule import schedule

    set_seed(stage.seed)
    if stage.adapter is not None:
        model = stage.adapter.attach(model)
    flops = count_flops(model)
    lengths = [len(row["input_ids"]) for row in rows]
    cost = Cost(lengths, [flops.train(length) for length in lengths])
    plan = schedule(lengths, cost.in_unit(stage.spend.unit), stage.spend, stage.seed, job.launch.micro_batch)
    make = partial(ScheduledTrainer, data_collator=PadRight(tokenizer.pad_token_id), processing_class=tokenizer)
    fit(job, make, model, rows, cost, plan, stage.spend, stage.optim, stage.seed)
    job.ledger.note(flops_method=METHOD)
    save_model(model, tokenizer, job.out)
    job.ledger.note(served_bytes=weight_bytes(job.out))


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
