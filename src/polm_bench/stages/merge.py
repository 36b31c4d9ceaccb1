"""Merging: models that were fine-tuned from one base become one, by mergekit's methods or by ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.merging import MergeRule

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

Parameters = Mapping[str, float | int | bool]


@dataclass(frozen=True, config=FORBID)
class MergeModels(Stage):
    """One model out of several by a method of mergekit; weights in float32."""

    base: Stage
    models: tuple[Stage, ...]
    method: str  # a merge_method of mergekit
    each: Parameters  # parameters of every merged model, e.g. weight and density
    whole: Parameters  # parameters of the merge
    seed: int = 0  # of the methods that drop weights at random
    anchored: bool = (
        True  # False: for a method without task vectors, to which mergekit would give the base as one more model
    )
    needs: ClassVar[Mapping[str, str]] = {"mergekit": "merge"}

    def run(self, job: Any) -> None:
        from mergekit.config import MergeConfiguration
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes

        base = job.path(self.base)
        told = {
            "merge_method": self.method,
            **({"base_model": str(base.resolve())} if self.anchored else {}),
            "dtype": "float32",
            "parameters": dict(self.whole),
            "models": [
                {"model": str(job.path(model).resolve()), "parameters": dict(self.each)} for model in self.models
            ],
        }
        merged = job.scratch / "merged"
        options = MergeOptions(quiet=True, random_seed=self.seed, copy_tokenizer=False, write_model_card=False)
        run_merge(MergeConfiguration.model_validate(told), str(merged), options)
        save_model(load_model(merged, "float32"), load_tokenizer(base), job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))


@dataclass(frozen=True, config=FORBID)
class CombineWeights(Stage):
    """One model out of several by a rule of ours; weights in float32."""

    base: Stage
    models: tuple[Stage, ...]
    rule: MergeRule
    statistics: tuple[Stage, ...] = ()  # one a model, where the rule needs them

    def run(self, job: Any) -> None:
        import torch
        from safetensors.torch import load_file

        from polm_bench.models.load import load_model

        model = load_model(job.path(self.base), "float32", "cpu")
        base = weights_of(model)
        tuned = [same_weights(base, job.path(stage)) for stage in self.models]
        known = [load_file(job.path(stage) / STATISTICS) for stage in self.statistics]
        with torch.no_grad():
            put(model, self.rule(base, tuned, known))
        finish(job, model, job.path(self.base))


STATISTICS = "statistics.safetensors"


def weights_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """Copies of the weights by name; tied ones once."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same_weights(base: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """Weights of the model in `folder`. Raises BadModel unless they have the base's names and shapes."""
    from polm_bench.models.load import load_model

    found = weights_of(load_model(folder, "float32", "cpu"))
    if {name: weight.shape for name, weight in found.items()} != {name: weight.shape for name, weight in base.items()}:
        raise BadModel(f"{folder} can't be merged: its weights have other names or shapes than the base's")
    return found


def put(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Write weights into the model, by name."""
    for name, weight in model.named_parameters():
        weight.data.copy_(weights[name])


def finish(job: Any, model: PreTrainedModel, tokenizer_from: Path) -> None:
    """Save the model as the stage's output."""
    from polm_bench.models.load import load_tokenizer, save_model, weight_bytes

    save_model(model, load_tokenizer(tokenizer_from), job.out)
    job.ledger.note(served_bytes=weight_bytes(job.out))


@dataclass(frozen=True, config=FORBID)
class WeightStatistics(Stage):
    """What a merging rule must know of a model, on the first rows that a budget trains it on.

    `fisher`: diagonal of the Fisher information, the mean over tokens of the squared gradient of log p(y|x) with y drawn from the model
    (Matena and Raffel 2022; their fisher.py takes the expectation over the model's own answers). `gram`: X^T X [in, in] of the inputs of each
    linear layer.
    """

    version: ClassVar[int] = 2

    model: Stage
    data: Rows
    spend: Spend  # of the model's own training; bounds which rows there are
    kind: Annotated[str, Field(pattern="^(fisher|gram)$")]
    rows: PositiveInt  # at most
    seed: int

    def run(self, job: Any) -> None:
        import time

        from safetensors.torch import save_file
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.stages.merge_statistics import beginnings, fisher_diagonal, input_grams

        folder = job.path(self.model)
        model = load_model(folder, "float32", job.device)
        flops = count_flops(model)
        ids = self._ids(job, load_tokenizer(folder))
        set_seed(self.seed)
        started = time.monotonic()
        if self.kind == "fisher":
            ids = beginnings(ids)
        found = (fisher_diagonal if self.kind == "fisher" else input_grams)(model, ids, job.progress)
        save_file({name: value.contiguous().cpu() for name, value in found.items()}, str(job.out / STATISTICS))
        count = flops.train if self.kind == "fisher" else flops.score
        job.ledger.add(
            tokens_scored=sum(map(len, ids)),
            flops=sum(count(len(row)) for row in ids),
            device_seconds=time.monotonic() - started,
        )
        job.ledger.note(flops_method=METHOD)

    def _ids(self, job: Any, tokenizer: Any) -> list[Sequence[int]]:
        from polm_bench.stages.sft import completion_rows
        from polm_bench.trainers.schedule import schedule

        rows = completion_rows(tokenizer, self.data.read(job, "train"), self.spend.max_length)
        lengths = [len(row["input_ids"]) for row in rows]
        used = schedule(lengths, lengths, self.spend, self.seed, self.spend.batch).rows()
        return [rows[row]["input_ids"] for row in used[: self.rows]]
