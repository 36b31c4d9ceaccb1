"""Which rows of the role `sft` are worth training on: by how much the question helps with the answer, or by a rule of several indicators."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.roles import Row
from polm_bench.data.source import Rows
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards import Reward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from polm_bench.trainers.pair import PairRow


@dataclass(frozen=True, config=FORBID)
class ScreenIFD(Stage):
    """The share of the rows with the highest instruction-following difficulty below 1, in the data's order; at most `most` rows are scored.

    Li et al. 2024 (arXiv:2308.12032), Eq. 1-3: IFD = mean loss of the answer given the question / mean loss of the answer alone. At 1 or above
    the question does not help with the answer, so the two don't belong together. The score of each kept row is in its `ifd`.

    Raises EmptyHarvest when no question helps.
    """

    model: Stage
    data: Rows
    keep: Annotated[float, Field(gt=0, le=1)]
    most: PositiveInt
    max_length: PositiveInt
    seed: int

    def run(self, job: Any) -> None:
        from polm_bench.models.chat import encode_completions, encode_prompts, join
        from polm_bench.models.load import load_model, load_tokenizer

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        chosen = drawn(self.data.read(job, "train"), self.most, self.seed)
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in chosen])
        answers = encode_completions(tokenizer, [row["completion"] for row in chosen])
        start = [tokenizer.pad_token_id]  # an answer alone needs something to stand after
        asked, bare = (
            [join(before, answer, self.max_length) for before, answer in zip(befores, answers, strict=True)]
            for befores in (prompts, [start] * len(answers))
        )
        started = time.monotonic()
        given, alone = (losses(model, rows, start[0], job) for rows in (asked, bare))
        ifd = np.array(given) / np.maximum(np.array(alone), 1e-6)
        useful = [place for place in np.argsort(-ifd, kind="stable").tolist() if ifd[place] < 1]
        if not useful:
            raise EmptyHarvest(f"the question makes none of {len(chosen)} answers likelier, so no row is worth keeping")
        kept = sorted(useful[: max(1, int(self.keep * len(chosen)))])
        _charge(job, model, [len(row.ids) for row in [*asked, *bare]], started)
        job.ledger.note(harvest={"rows": len(chosen), "useful": len(useful), "kept": len(kept)})
        write_rows(job.out / ROWS, ({**chosen[place], "ifd": round(float(ifd[place]), 4)} for place in kept))


@dataclass(frozen=True, config=FORBID)
class LinearRule:
    """The log loss that a model tuned on a row would have: a sum of the row's indicators, each times a number."""

    constant: float
    reward: float
    length: float  # a token of the answer
    distance: float  # to the nearest neighbour of that number
    neighbour: PositiveInt

    def foresee(self, rewards: np.ndarray, lengths: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """One number for each row."""
        return self.constant + self.reward * rewards + self.length * lengths + self.distance * distances


@dataclass(frozen=True, config=FORBID)
class ScreenRule(Stage):
    """The share of the rows with the lowest loss that a linear rule foresees, in the data's order; at most `most` rows are scored.

    Cao et al. 2023 (Instruction Mining, arXiv:2307.06290, version 1): a reward model's score, the answer's tokens, and the distance to the sixth
    nearest row. Rows are vectors of length 1 there from a sentence encoder, here the mean of `model`'s last hidden states over question and
    answer. The foreseen log loss of each kept row is in its `loss`.
    """

    model: Stage
    reward: Reward
    data: Rows
    rule: LinearRule
    keep: Annotated[float, Field(gt=0, le=1)]
    most: PositiveInt
    max_length: PositiveInt
    seed: int

    def run(self, job: Any) -> None:
        from polm_bench.models.chat import encode_completions, encode_prompts, join
        from polm_bench.models.load import load_model, load_tokenizer

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        chosen = drawn(self.data.read(job, "train"), self.most, self.seed)
        answers = encode_completions(tokenizer, [row["completion"] for row in chosen])
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in chosen])
        whole = [join(*pair, self.max_length).ids for pair in zip(prompts, answers, strict=True)]
        started = time.monotonic()
        distances = neighbours(vectors(model, whole, tokenizer.pad_token_id, job), self.rule.neighbour)
        rewards = self.reward.scorer(job)(chosen, [row["completion"] for row in chosen])
        loss = self.rule.foresee(np.array(rewards), np.array([len(ids) for ids in answers]), distances)
        kept = sorted(np.argsort(loss, kind="stable")[: max(1, int(self.keep * len(chosen)))].tolist())
        _charge(job, model, [len(ids) for ids in whole], started)
        job.ledger.note(harvest={"rows": len(chosen), "kept": len(kept)})
        write_rows(job.out / ROWS, ({**chosen[place], "loss": round(float(loss[place]), 4)} for place in kept))


def drawn(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most `most` of the rows, in their order."""
    return [rows[row] for row in sorted(np.random.default_rng(seed).permutation(len(rows))[:most])]


def _charge(job: Any, model: PreTrainedModel, lengths: Sequence[int], started: float) -> None:
    """Enter sequences of these lengths that `model` has read since `started`."""
    from polm_bench.probes.flops import METHOD, count_flops

    flops = count_flops(model)
    job.ledger.add(
        tokens_scored=sum(lengths),
        flops=sum(map(flops.score, lengths)),
        device_seconds=time.monotonic() - started,
    )
    job.ledger.note(flops_method=METHOD)


def vectors(model: PreTrainedModel, rows: Sequence[Sequence[int]], pad_id: int, job: Any) -> np.ndarray:
    """A vector of length 1 for each row of token ids, [N, H]."""
    import torch

    from polm_bench.decoding.dense import embed

    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), job.launch.micro_batch):
            chunk = [torch.tensor(ids) for ids in rows[start : start + job.launch.micro_batch]]
            ids = torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True, padding_value=pad_id)
            mask = (torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in chunk])).long()
            found.append(torch.nn.functional.normalize(embed(model, ids.to(job.device), mask.to(job.device)).float()))
            job.progress(start + len(chunk), len(rows), "rows")
    return torch.cat(found).cpu().numpy()


def neighbours(points: np.ndarray, number: int) -> np.ndarray:
    """Distance of each point [N, H] to its `number`th nearest other one, or to the farthest where there are fewer."""
    inner = points @ points.T
    squares = np.diag(inner)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * inner, 0.0))
    return np.sort(apart, axis=1)[:, min(number, len(points) - 1)]  # the nearest of all is the point itself


def losses(model: PreTrainedModel, rows: Sequence[Any], pad_id: int, job: Any) -> list[float]:
    """Mean loss in nats of each row's completion tokens; `rows` are `Encoded`."""
    import torch

    from polm_bench.trainers.pair import PairCollator, sequence_logps

    collate = PairCollator(pad_id)
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place].ids))
    found = [0.0] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), job.launch.micro_batch):
            chunk = order[start : start + job.launch.micro_batch]
            halves = [chunk[: (len(chunk) + 1) // 2], chunk[len(chunk) // 2 :]]  # a pair of sequences makes a row
            pairs: list[PairRow] = [
                {
                    "first": rows[a].ids,
                    "first_len": rows[a].completion,
                    "second": rows[b].ids,
                    "second_len": rows[b].completion,
                }
                for a, b in zip(*halves, strict=True)
            ]
            batch = {name: tensor.to(job.device) for name, tensor in collate(pairs).items()}
            logps, lengths = sequence_logps(model, batch)
            for place, value in zip([*halves[0], *halves[1]], (-logps / lengths).tolist(), strict=True):
                found[place] = value
            job.progress(start + len(chunk), len(order), "rows")
    return found
