"""Knowledge editing beside the weights: low-rank blocks, each for a few facts, found by what a layer sees (MELO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.graph import FORBID, Stage
from polm_bench.models.blocks import Blocks
from polm_bench.stages.edit_memory import arrange
from polm_bench.stages.facts import PickFacts, answer_rows, read_facts
from polm_bench.stages.merge import finish

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class EditBlocks(Stage):
    """Facts in groups, a low-rank block for each group; the model's weights stay as they are.

    Yu et al. 2024, MELO (arXiv:2312.11795): keys are what the router sees where the answer is said, in clusters whose radii grow over keys of the same
    block and shrink before those of another, as in GRACE. A key of every token of the answer is kept, as each token is looked up. Blocks are trained together:
    no token takes two.
    """

    init: Stage
    facts: PickFacts
    depth: Annotated[float, Field(ge=0, lt=1)]  # of the router's layer, as a share of the model's layers
    layers: PositiveInt  # after it that have blocks, where there are so many
    group: PositiveInt  # facts of one block
    rank: PositiveInt
    radius: PositiveFloat  # of a new entry, as a multiple of the mean norm of the keys
    lr: PositiveFloat  # Adam, constant
    steps: PositiveInt  # passes over the facts, at most
    spend: Spend
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.structure import write_structure
        from polm_bench.objectives.editing import Likelihood
        from polm_bench.probes.flops import count_flops
        from polm_bench.stages.edit import answer_loss
        from polm_bench.trainers.base import PadRight
        from polm_bench.trainers.purse import Purse

        set_seed(self.seed)
        folder = job.path(self.init)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        model.requires_grad_(False)
        rows = answer_rows(tokenizer, read_facts(job.path(self.facts)), "new", self.spend.max_length)
        lengths, flops = [len(row["input_ids"]) for row in rows], count_flops(model)
        job.ledger.add(tokens_scored=sum(lengths), flops=sum(map(flops.score, lengths)))  # for the keys
        structure = self._placed(model, rows)
        purse = Purse(self.spend, count_flops(model))  # now that a gradient flows, down to the blocks
        collate = PadRight(tokenizer.pad_token_id)
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer, size = torch.optim.Adam(trained, lr=self.lr), self.spend.batch
        for step in range(self.steps):
            for begin in range(0, len(rows), size):
                if purse.empty():
                    break
                chunk = rows[begin : begin + size]
                batch = {name: value.to(model.device) for name, value in collate(chunk).items()}
                loss = answer_loss(model, batch, Likelihood())
                (loss * len(chunk)).backward()  # the sum: each block has rows of its own
                purse.pay([len(row["input_ids"]) for row in chunk])
                job.curve(purse.steps, loss=loss.item())
            optimizer.step()
            optimizer.zero_grad()
            job.progress(step + 1, self.steps, "passes")
            if purse.empty():
                break
        purse.settle(job, sum(weight.numel() for weight in trained), model.num_parameters())
        job.ledger.note(entries=structure.entries, blocks=structure.blocks)
        finish(job, model, folder)
        write_structure(structure, job.out)

    def _placed(self, model: PreTrainedModel, rows: list[dict[str, list[int]]]) -> Blocks:
        """The structure, put into the model with its keys in place."""
        import torch

        count = model.config.num_hidden_layers
        layer = min(int(self.depth * count), count - 2)
        path = f"model.layers.{layer}.mlp.gate_proj"
        after = range(layer + 1, min(layer + 1 + self.layers, count))
        targets = tuple(f"model.layers.{n}.mlp.{name}" for n in after for name in ("gate_proj", "up_proj"))
        each = [answer_keys(model, path, row) for row in rows]
        owners = [number // self.group for number, keys in enumerate(each) for _ in keys]
        keys = torch.cat(each)
        book = arrange(keys, [(owner,) for owner in owners], self.radius * float(keys.norm(dim=1).mean()))
        structure = Blocks(path, targets, len(book.rows), owners[-1] + 1, self.rank)
        structure.apply(model)
        router: Any = model.get_submodule(path)
        with torch.no_grad():
            router.keys.copy_(keys[book.rows])
            router.radii.copy_(torch.tensor(book.radii))
            router.blocks.copy_(torch.tensor(owners)[book.rows])
        return structure


def answer_keys(model: PreTrainedModel, path: str, row: dict[str, list[int]]) -> Tensor:
    """[T, in], what enters the layer `path` where each of the answer's T tokens is said."""
    import torch

    from polm_bench.models.lookup import caught

    start = row["labels"].count(-100) - 1
    with caught(model.get_submodule(path), entering=True) as seen, torch.no_grad():
        model(input_ids=torch.tensor([row["input_ids"]], device=model.device))
    return seen[0][0, start:-1]
