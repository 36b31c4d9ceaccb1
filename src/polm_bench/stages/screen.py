"""Which rows of the role `sft` are worth training on, by how much the question helps with the answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import ROWS, write_rows
from polm_bench.data.source import Rows
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID, Stage

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
        from polm_bench.probes.flops import METHOD, count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        rows = self.data.read(job, "train")
        chosen = sorted(np.random.default_rng(self.seed).permutation(len(rows))[: self.most].tolist())
        prompts = encode_prompts(tokenizer, [rows[row]["prompt"] for row in chosen])
        answers = encode_completions(tokenizer, [rows[row]["completion"] for row in chosen])
        start = [tokenizer.pad_token_id]  # an answer alone needs something to stand after
        started = time.monotonic()
        given, alone = (
            losses(model, [join(before, answer, self.max_length) for before, answer in pairs], start[0], job)
            for pairs in (zip(prompts, answers, strict=True), ((start, answer) for answer in answers))
        )
        ifd = np.array(given) / np.maximum(np.array(alone), 1e-6)
        useful = [place for place in np.argsort(-ifd, kind="stable").tolist() if ifd[place] < 1]
        if not useful:
            raise EmptyHarvest(f"the question makes none of {len(chosen)} answers likelier, so no row is worth keeping")
        kept = sorted(useful[: max(1, int(self.keep * len(chosen)))])
        lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)] + [1 + len(a) for a in answers]
        flops = count_flops(model)
        job.ledger.add(
            tokens_scored=sum(lengths),
            flops=sum(map(flops.score, lengths)),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD, harvest={"rows": len(chosen), "useful": len(useful), "kept": len(kept)})
        write_rows(job.out / ROWS, ({**rows[chosen[place]], "ifd": round(float(ifd[place]), 4)} for place in kept))


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
