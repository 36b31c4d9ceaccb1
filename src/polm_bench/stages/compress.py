"""Models made smaller without training: quantised, pruned, or with low-rank weights."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic.dataclasses import dataclass

from polm_bench.data.source import Rows
from polm_bench.errors import BadData
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.compression.base import Compression

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, config=FORBID)
class CompressModel(Stage):
    """A smaller model folder, which says in another process what the model said here."""

    model: Stage
    method: Compression
    data: Rows | None  # role `corpus`; None where the method looks at no text
    seed: int

    @property
    def needs(self) -> Mapping[str, str]:  # type: ignore[override]
        return self.method.needs

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.models.structure import write_structure
        from polm_bench.probes.flops import METHOD, count_flops

        folder = job.path(self.model)
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, "float32", job.device)
        set_seed(self.seed)
        rows = self._rows(tokenizer)
        flops = count_flops(model)
        started = time.monotonic()
        smaller, structure = self.method.compress(model, tokenizer, rows, job)
        if rows is not None:
            passes, back = self.method.forward_passes, self.method.backward_passes
            count, length = rows.shape
            each = (passes - back) * flops.score(length) + back * flops.train(length)
            job.ledger.add(tokens_scored=passes * rows.numel(), flops=count * each)
        job.ledger.add(device_seconds=time.monotonic() - started)
        save_model(smaller, tokenizer, job.out)
        if structure is not None:
            write_structure(structure, job.out)
        for path in job.out.glob("recipe.yaml"):
            path.unlink()  # llmcompressor's own note of what it did
        if weight_bytes(job.out) >= weight_bytes(folder):
            raise ArithmeticError(
                f"{type(self.method).__name__} made a model of {weight_bytes(job.out):,} bytes from one of {weight_bytes(folder):,}"
            )
        job.ledger.note(
            flops_method=METHOD,
            served_bytes=weight_bytes(job.out),
            stored=self.method.stored,
            computed=self.method.computed,
            calibration_tokens=0 if rows is None else rows.numel(),
        )

    def _rows(self, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor | None:
        """Tokens [N, T] of the calibration text: documents in an order drawn by the seed, joined and cut. Raises BadData where the text is too short."""
        import torch

        from polm_bench.stages.sft import packed_rows

        wanted = self.method.calibration
        if wanted is None or self.data is None:
            return None
        texts = [row["text"] for row in self.data.load("train")]
        random.Random(self.seed).shuffle(texts)
        whole: list[list[int]] = []
        used = 0
        while len(whole) < wanted.samples and used < len(texts):  # no more of a large corpus is read than it takes
            used = 2 * used or wanted.samples
            whole = [row["input_ids"] for row in packed_rows(tokenizer, texts[:used], wanted.length)]
        if not whole:
            raise BadData(
                f"the role 'corpus' has less than the {wanted.length} tokens of one calibration sequence; give more text or a smaller length"
            )
        return torch.tensor(whole[: wanted.samples])
