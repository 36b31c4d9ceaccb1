"""Preference optimisation on precomputed reference log-probs."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import BadData
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives import PairObjective
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.reference import Moving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.trainers.fit import Cost
    from polm_bench.trainers.objective import LiveReference
    from polm_bench.trainers.pair import PairRow
    from polm_bench.trainers.schedule import Schedule

LOGPS = "logps.safetensors"


@dataclass(frozen=True, config=FORBID)
class ReferenceLogps(Stage):
    """Log-probs [N, 2] in nats of both completions of the rows that a budget will use, under a model that stays as it is.

    It has no objective among its fields, so that every method on the same start, data and budget shares it. Rows that are not used are NaN.
    """

    model: Stage
    data: Rows
    spend: Spend
    seed: int
    shared_prompt: bool = False  # as in `TrainPairs`

    def run(self, job: Any) -> None:
        import torch
        from safetensors.torch import save_file

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.pair import PairCollator

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", job.device)  # as the policy is loaded, or DPO would not start at log 2
        rows = pair_rows(tokenizer, self.data.read(job, "train"), self.data.role, self.spend.max_length)
        flops = count_flops(model)
        used = _used(rows, self.spend, self.seed)
        collate = PairCollator(tokenizer.pad_token_id, self.shared_prompt)
        logps = torch.full((len(rows), 2), float("nan"))
        size = max(1, job.launch.micro_batch // 2)  # a row is two sequences
        started = time.monotonic()
        logps[used] = score_pairs(model, [rows[row] for row in used], collate, size, job.progress)
        save_file({"logps": logps}, str(job.out / LOGPS))
        passes = [length for row in used for length in _passes(rows[row], self.shared_prompt)]
        job.ledger.add(
            tokens_scored=sum(_tokens(rows[row]) for row in used),
            flops=sum(map(flops.score, passes)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)


@dataclass(frozen=True, config=FORBID)
class TrainPairs(Stage):
    """Preference optimisation with one objective, from `init`; all objectives see the same rows in the same order.

    The reference is scored beforehand (`reference`), or stays in memory (`live`) because the objective reads its distributions or because it
    moves. With neither, an objective that reads a reference is given 0 nats for every completion.
    """

    init: Stage
    reference: ReferenceLogps | None
    objective: PairObjective
    data: Rows
    spend: Spend
    optim: Optim
    seed: int
    live: Stage | None = None
    moving: Moving | None = None
    shared_prompt: bool = False  # compute what chosen and rejected begin with once; the same but for rounding
    parallel: ClassVar[bool] = True

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.fit import fit
        from polm_bench.trainers.pair import PairTrainer

        folder = job.path(self.init)
        tokenizer = load_tokenizer(folder)
        set_seed(self.seed)
        model = load_model(folder, "float32", job.device)
        rows = pair_rows(tokenizer, self.data.read(job, "train"), self.data.role, self.spend.max_length)
        if self.objective.reads_margin and any("margin" not in row for row in rows):
            raise BadData(f"{type(self.objective).__name__} reads 'margin', which some rows of the data lack")
        self._refer(job, rows)
        cost = self._cost(rows, count_flops(model))
        plan = pair_schedule(rows, cost.in_unit(self.spend.unit), self.spend, self.seed, job.launch.micro_batch)
        make = partial(
            PairTrainer,
            objective=self.objective,
            pad_id=tokenizer.pad_token_id,
            reference=self._live(job, plan.steps),
            shared_prompt=self.shared_prompt,
        )
        fit(job, make, model, rows, cost, plan, self.spend, self.optim, self.seed)
        scored = [sum(self._scored(row)) for row in rows]
        if any(scored):
            job.ledger.add(tokens_scored=plan.amount(scored, job.ledger.notes["steps"]))
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))

    def _refer(self, job: Any, rows: list[PairRow]) -> None:
        """Give the rows the reference's log-probs, unless it stays in memory."""
        from safetensors.torch import load_file

        if self.reference is not None:
            known = load_file(job.path(self.reference) / LOGPS)["logps"].tolist()
            for row, (first, second) in zip(rows, known, strict=True):
                row["reference"] = (first, second)
        elif self.live is None and self.objective.needs_reference:
            for row in rows:
                row["reference"] = (0.0, 0.0)

    def _live(self, job: Any, steps: int) -> LiveReference | None:
        from polm_bench.models.load import load_model
        from polm_bench.trainers.objective import LiveReference

        if self.live is None:
            return None
        model = load_model(job.path(self.live), "float32", job.device)
        if self.moving is None:
            return LiveReference(model)
        return LiveReference(model, self.moving.share, max(1, steps // self.moving.moves))

    def _cost(self, rows: list[PairRow], flops: Any) -> Cost:
        """Tokens and operations of one row that is trained on once."""
        from polm_bench.trainers.fit import Cost

        per_row = []
        for row in rows:
            trained = [len(row["first"])] if "label" in row else _passes(row, self.shared_prompt)
            scored = self._scored(row, self.shared_prompt)
            per_row.append(sum(map(flops.train, trained)) + sum(map(flops.score, scored)))
        return Cost([_trained(row) for row in rows], per_row)

    def _scored(self, row: PairRow, shared_prompt: bool = False) -> list[int]:
        """Tokens of each row that a step scores without training on it: mismatched completions, a live reference, a look at the whole batch."""
        both = _passes(row, shared_prompt)
        mismatched = both[1:] if self.data.role == "unpaired" and self.objective.reads_kl else []
        looks = 1 + self.objective.reads_batch  # the look at the whole batch asks a live reference too
        return mismatched + both * (self.live is not None) * looks + both * self.objective.reads_batch


def score_pairs(
    model: PreTrainedModel,
    rows: Sequence[PairRow],
    collate: Callable[[Sequence[PairRow]], dict[str, Tensor]],
    size: int,
    progress: Callable[[float, float, str], None],
) -> Tensor:
    """Log-probs [N, 2] in nats of both completions of N rows, `size` rows at a time."""
    import torch

    from polm_bench.trainers.logps import mixed, sequence_logps

    logps = torch.empty(len(rows), 2)
    # alike lengths together: little padding, and no memory surprise at the end
    order = sorted(range(len(rows)), key=lambda row: -_tokens(rows[row]))
    with torch.inference_mode(), mixed(model.device):
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            batch = {name: tensor.to(model.device) for name, tensor in collate([rows[row] for row in chunk]).items()}
            logps[chunk] = sequence_logps(model, batch).logps.reshape(2, -1).T.cpu()
            progress(start + len(chunk), len(order), "rows")
    return logps


def pair_rows(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], role: str, max_length: int
) -> list[PairRow]:
    """Two token sequences for each row of the roles `preference` and `unpaired`.

    An unpaired row's second sequence is its prompt with the answer of the next row that asks something else: the mismatched pair from which
    KTO estimates the KL.
    """
    from polm_bench.models.chat import encode_completions, encode_prompts, join

    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    if role == "preference":
        first = encode_completions(tokenizer, [row["chosen"] for row in rows])
        second = encode_completions(tokenizer, [row["rejected"] for row in rows])
    elif role == "unpaired":
        first = encode_completions(tokenizer, [row["completion"] for row in rows])
        second = [first[other] for other in _mismatched(prompts)]
    else:
        raise BadData(f"preference training reads the roles preference and unpaired, not '{role}'")
    made: list[PairRow] = []
    for row, prompt, one, two in zip(rows, prompts, first, second, strict=True):
        a, b = join(prompt, one, max_length), join(prompt, two, max_length)
        pair: PairRow = {"first": a.ids, "first_len": a.completion, "second": b.ids, "second_len": b.completion}
        if role == "unpaired":
            pair["label"] = bool(row["label"])
        elif "margin" in row:
            pair["margin"] = float(row["margin"])
        made.append(pair)
    return made


def _mismatched(prompts: list[list[int]]) -> list[int]:
    """For each row the number of the next row with another prompt, round the end. Raises BadData where all prompts are the same."""
    following = [0] * len(prompts)
    for row in range(2 * len(prompts) - 1, -1, -1):  # twice round, backwards, so that the last rows know the first
        here, after = row % len(prompts), (row + 1) % len(prompts)
        following[here] = after if prompts[after] != prompts[here] else following[after]
    if prompts[following[0]] == prompts[0]:
        raise BadData(
            "the role 'unpaired' has one prompt only, so no mismatched answer from which KTO could estimate its KL"
        )
    return following


def pair_schedule(rows: list[PairRow], cost: Any, spend: Spend, seed: int, micro_batch: int) -> Schedule:
    """Order of the rows; `micro_batch` counts sequences, and a row has two."""
    from polm_bench.trainers.schedule import schedule

    return schedule([_tokens(row) for row in rows], cost, spend, seed, max(1, micro_batch // 2))


def _used(rows: list[PairRow], spend: Spend, seed: int) -> list[int]:
    """Numbers of the rows that training will read: known beforehand for steps and tokens, else all."""
    if spend.unit not in ("steps", "tokens"):
        return list(range(len(rows)))
    return pair_schedule(rows, [_trained(row) for row in rows], spend, seed, spend.batch).rows()


def _passes(row: PairRow, shared_prompt: bool) -> list[int]:
    """Tokens of each row that goes through the model for a pair; unpaired rows share nothing."""
    from polm_bench.trainers.sharing import packed_length

    if shared_prompt and "label" not in row:
        return [packed_length(row)]
    return [len(row["first"]), len(row["second"])]


def _tokens(row: PairRow) -> int:
    return len(row["first"]) + len(row["second"])


def _trained(row: PairRow) -> int:
    """Tokens that a step trains on: of an unpaired row, whose second sequence is only scored, those of the first."""
    return len(row["first"]) if "label" in row else _tokens(row)
