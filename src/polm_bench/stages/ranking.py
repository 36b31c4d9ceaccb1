"""Preference optimisation on ranked answers."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.derived import ROWS, read_rows, write_rows
from polm_bench.data.source import Rows
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives import ListObjective
from polm_bench.stages.generate import ANSWERS, Generate
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polm_bench.data.roles import Row
    from polm_bench.trainers.ranking import ListRow
    from polm_bench.trainers.schedule import Schedule

LOGPS = "logps.safetensors"


@dataclass(frozen=True, config=FORBID)
class ReferenceLists(Stage):
    """Log-probs [N, M] in nats of the answers to the prompts that a budget will use, best answer first, under a model that stays as it is.

    It has no objective among its fields, so that every method on the same start, data and budget shares it. What is not used is NaN.
    """

    model: Stage
    data: Rows
    spend: Spend
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from safetensors.torch import save_file

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.logps import mixed, sequence_logps
        from polm_bench.trainers.ranking import ListCollator

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(
            folder, "float32", job.device
        )  # as the policy is loaded, or the first rewards would not be 0
        rows = list_rows(tokenizer, self.data.read(job, "train"), self.spend.max_length)
        flops = count_flops(model)
        used = _used(rows, self.spend, self.seed)
        used.sort(key=lambda row: -_tokens(rows[row]))  # alike lengths together
        collate = ListCollator(tokenizer.pad_token_id)
        logps = torch.full((len(rows), _most(rows)), float("nan"))
        size = max(1, job.launch.micro_batch // _most(rows))
        started = time.monotonic()
        with torch.inference_mode(), mixed(job.device):
            for start in range(0, len(used), size):
                chunk = used[start : start + size]
                batch = {name: tensor.to(job.device) for name, tensor in collate([rows[row] for row in chunk]).items()}
                found = iter(sequence_logps(model, batch).logps.cpu())
                for row in chunk:
                    for place in range(len(rows[row]["scores"])):
                        logps[row, place] = next(found)
                job.progress(start + len(chunk), len(used), "prompts")
        save_file({"logps": logps}, str(job.out / LOGPS))
        sequences = [len(ids) for row in used for ids in rows[row]["answers"]]
        job.ledger.add(
            tokens_scored=sum(sequences),
            flops=sum(map(flops.score, sequences)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)


@dataclass(frozen=True, config=FORBID)
class TrainLists(Stage):
    """Preference optimisation with one listwise objective, from `init`; all objectives see the same prompts in the same order."""

    init: Stage
    reference: ReferenceLists | None
    objective: ListObjective
    data: Rows
    spend: Spend
    optim: Optim
    seed: int

    def run(self, job: Any) -> None:
        from safetensors.torch import load_file
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.fit import Cost, fit
        from polm_bench.trainers.ranking import ListTrainer

        folder = job.path(self.init)
        tokenizer = load_tokenizer(folder)
        set_seed(self.seed)
        model = load_model(folder, "float32", job.device)
        rows = list_rows(tokenizer, self.data.read(job, "train"), self.spend.max_length)
        if self.reference is not None:
            known = load_file(job.path(self.reference) / LOGPS)["logps"].tolist()
            for row, values in zip(rows, known, strict=True):
                row["reference"] = values[: len(row["scores"])]
        flops = count_flops(model)
        cost = Cost(
            [_tokens(row) for row in rows], [sum(flops.train(len(ids)) for ids in row["answers"]) for row in rows]
        )
        plan = list_schedule(rows, cost.in_unit(self.spend.unit), self.spend, self.seed, job.launch.micro_batch)
        make = partial(ListTrainer, objective=self.objective, pad_id=tokenizer.pad_token_id)
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))


@dataclass(frozen=True, config=FORBID)
class AgainstSamples(Stage):
    """Lists of a model's own answers to the prompts of preference pairs, with each pair's rejected completion as the last and worst.

    Writes `rows.jsonl` of the role `ranking`: score 1 for the model's own answers, 0 for the rejected completion. Prompts to which no answer
    ended by itself, or only the rejected completion, are left out.
    """

    answers: Generate

    def run(self, job: Any) -> None:
        """Raises EmptyHarvest when nothing is left."""
        made = []
        for found in read_rows(job.path(self.answers) / ANSWERS):
            bad = found["row"]["rejected"]
            own = [answer["text"] for answer in found["answers"] if answer["ended"] and answer["text"].strip()]
            own = [text for text in own if text != bad]
            if own:
                made.append(
                    {
                        "prompt": found["row"]["prompt"],
                        "responses": [*own, bad],
                        "scores": [1.0] * len(own) + [0.0],
                    }
                )
        if not made:
            raise EmptyHarvest(
                "no answer of the model ended by itself, so there is nothing to set against the rejected"
            )
        write_rows(job.out / ROWS, made)


def list_rows(tokenizer: PreTrainedTokenizerBase, rows: list[Row], max_length: int) -> list[ListRow]:
    """Token sequences for each row of the role `ranking`, best answer first, equal ones in the order they stand in."""
    from polm_bench.models.chat import encode_completions, encode_prompts, join

    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    texts = encode_completions(tokenizer, [text for row in rows for text in row["responses"]])
    each = iter(texts)
    made: list[ListRow] = []
    for row, prompt in zip(rows, prompts, strict=True):
        joined = [join(prompt, next(each), max_length) for _ in row["responses"]]
        order = sorted(range(len(joined)), key=lambda place: -row["scores"][place])
        made.append(
            {
                "answers": [joined[place].ids for place in order],
                "lengths": [joined[place].completion for place in order],
                "scores": [float(row["scores"][place]) for place in order],
            }
        )
    return made


def list_schedule(rows: list[ListRow], cost: Any, spend: Spend, seed: int, micro_batch: int) -> Schedule:
    """Order of the prompts; `micro_batch` counts sequences, and a prompt has as many as answers."""
    from polm_bench.trainers.schedule import schedule

    return schedule([_tokens(row) for row in rows], cost, spend, seed, max(1, micro_batch // _most(rows)))


def _used(rows: list[ListRow], spend: Spend, seed: int) -> list[int]:
    """Numbers of the rows that training will read: known beforehand for steps and tokens, else all."""
    if spend.unit not in ("steps", "tokens"):
        return list(range(len(rows)))
    return list_schedule(rows, [_tokens(row) for row in rows], spend, seed, spend.batch * _most(rows)).rows()


def _most(rows: list[ListRow]) -> int:
    return max(len(row["scores"]) for row in rows)


def _tokens(row: ListRow) -> int:
    return sum(map(len, row["answers"]))
