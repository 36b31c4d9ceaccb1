"""After merging: the merged model's representations brought nearer to those of the experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.merge import finish

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class CorrectRepresentations(Stage):
    """A small module before the head, trained so that the merged model represents a domain's rows as that domain's expert does.

    Yang et al. 2024, Representation Surgery (arXiv:2402.02705; the authors' src/merging_model.py and main_TaskArithmetic_with_surgery.py):
    z' = z - U relu(D z), minimise |z' - z_t| over the rows of task t, U starting at 0 (added here, which is the same). The authors have a module a task and know each input's task; a
    question does not tell it here, so that all tasks share one module with as many units as theirs have together. Rows are whole, as the tokens of an answer
    are inputs too, and of the training split; the authors take the test's inputs.
    """

    model: Stage  # the merged one
    experts: tuple[Stage, ...]
    data: tuple[Rows, ...]  # one an expert
    spend: Spend
    steps: PositiveInt  # over all domains, one batch of each; at most
    batch: PositiveInt  # rows
    size: PositiveInt  # units for each domain
    lr: PositiveFloat  # Adam, constant
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.bottleneck import Bottleneck
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.structure import write_structure
        from polm_bench.probes.flops import count_flops
        from polm_bench.stages.sft import completion_rows
        from polm_bench.trainers.base import PadRight
        from polm_bench.trainers.purse import Purse

        set_seed(self.seed)
        folder = job.path(self.model)
        tokenizer, length = load_tokenizer(folder), self.spend.max_length
        model = load_model(folder, "float32", job.device).requires_grad_(False)
        experts = [load_model(job.path(expert), "float32", job.device) for expert in self.experts]
        known = [completion_rows(tokenizer, rows.read(job, "train"), length) for rows in self.data]
        structure = Bottleneck(("model.norm",), "serial", "relu", self.size * len(experts))
        structure.apply(model)
        trained = begun(model.get_submodule("model.norm"))
        optimizer, collate = torch.optim.Adam(trained, lr=self.lr), PadRight(tokenizer.pad_token_id)
        draw = torch.Generator().manual_seed(self.seed)
        flops, scored = count_flops(model), 0.0
        purse = Purse(self.spend, flops)
        for step in range(self.steps):
            for expert, rows in zip(experts, known, strict=True):
                if purse.empty():
                    break
                chosen = [rows[i] for i in torch.randint(len(rows), (self.batch,), generator=draw).tolist()]
                loss = distance(model, expert, {name: told.to(model.device) for name, told in collate(chosen).items()})
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                lengths = [len(row["input_ids"]) for row in chosen]
                purse.pay(lengths)
                scored += sum(map(flops.score, lengths))
                job.curve(purse.steps, loss=loss.item())
            job.progress(step + 1, self.steps, "steps")
        purse.settle(job, sum(weight.numel() for weight in trained), model.num_parameters())
        job.ledger.add(tokens_scored=purse.tokens, flops=scored)
        write_structure(structure, job.out)
        finish(job, model, folder)


def begun(module: Any) -> list[Tensor]:
    """What is trained of the module: two matrices as the authors start them; it has no biases there."""
    import math

    from torch import nn

    nn.init.kaiming_uniform_(module.down.weight, a=math.sqrt(5))
    nn.init.zeros_(module.up.weight)
    for layer in (module.down, module.up):
        nn.init.zeros_(layer.bias).requires_grad_(False)
    return [module.down.weight, module.up.weight]


def distance(model: PreTrainedModel, expert: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Mean absolute difference of what enters the head, over all tokens of a batch and all units."""
    import torch

    told = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        wanted = expert.get_decoder()(**told).last_hidden_state
    found = model.get_decoder()(**told).last_hidden_state
    return (found - wanted)[batch["attention_mask"].bool()].abs().mean()
