"""Knowledge editing beside the weights: a codebook that one layer asks first (GRACE)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.graph import FORBID, Stage
from polm_bench.models.codebook import Codebook
from polm_bench.stages.facts import PickFacts, answer_rows, read_facts
from polm_bench.stages.merge import finish

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=FORBID)
class EditMemory(Stage):
    """Facts put into a codebook one after the other; the model's weights stay as they are.

    Hartvigsen et al. 2023 (arXiv:2211.11031): the key is the layer's input at the prompt's last token. Far from every key: a new
    entry. Near a key with the same answer: its radius grows to reach it. Near one with another answer: a new entry, and both radii shrink to half
    of the distance. A new entry's value starts as the layer's own output (EasyEdit's `warm`; its files draw it) and is trained on the answer. Values
    of different entries are trained together: none reads another.
    """

    version: ClassVar[int] = 2

    init: Stage
    facts: PickFacts
    depth: Annotated[
        float, Field(ge=0, lt=1)
    ]  # of the layer whose MLP gets the codebook, as a share of the model's layers
    radius: PositiveFloat  # of a new entry, as a multiple of the mean norm of the keys
    lr: PositiveFloat  # Adam, on values
    steps: PositiveInt  # of training a value, at most
    spend: Spend
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.structure import write_structure
        from polm_bench.probes.flops import count_flops
        from polm_bench.trainers.base import PadRight
        from polm_bench.trainers.purse import Purse

        set_seed(self.seed)
        folder = job.path(self.init)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        model.requires_grad_(False)
        rows = answer_rows(tokenizer, read_facts(job.path(self.facts)), "new", self.spend.max_length)
        path = f"model.layers.{int(self.depth * model.config.num_hidden_layers)}.mlp.down_proj"
        keys = prompt_ends(model, path, rows)
        ends, flops = [row["labels"].count(-100) for row in rows], count_flops(model)
        job.ledger.add(tokens_scored=sum(ends), flops=sum(map(flops.score, ends)))
        radius = self.radius * float(keys.norm(dim=1).mean())
        book = arrange(keys, [tuple(token for token in row["labels"] if token != -100) for row in rows], radius)
        structure = Codebook(path, len(book.rows))
        structure.apply(model)
        memory: Any = model.get_submodule(path)
        with torch.no_grad():
            memory.keys.copy_(keys[book.rows])
            memory.radii.copy_(torch.tensor(book.radii))
            memory.values.copy_(memory.layer(keys[book.rows]))
        memory.values.requires_grad_(True)
        purse = Purse(self.spend, count_flops(model))  # now that a gradient flows, down to the memory
        self._learn(job, model, memory, [rows[row] for row in book.rows], PadRight(tokenizer.pad_token_id), purse)
        purse.settle(job, memory.values.numel(), model.num_parameters())
        job.ledger.note(entries=len(book.rows), radius=round(radius, 4))
        finish(job, model, folder)
        write_structure(structure, job.out)

    def _learn(self, job: Any, model: PreTrainedModel, memory: Any, rows: list[Any], collate: Any, purse: Any) -> None:
        import torch

        from polm_bench.objectives.editing import Likelihood
        from polm_bench.stages.edit import answer_loss

        optimizer = torch.optim.Adam([memory.values], lr=self.lr)
        size = self.spend.batch
        for step in range(self.steps):
            for begin in range(0, len(rows), size):
                if purse.empty():
                    return
                chunk = rows[begin : begin + size]
                batch = {name: value.to(model.device) for name, value in collate(chunk).items()}
                (
                    answer_loss(model, batch, Likelihood()) * len(chunk)
                ).backward()  # the sum: each row has a value of its own
                purse.pay([len(row["input_ids"]) for row in chunk])
            optimizer.step()
            optimizer.zero_grad()
            job.progress(step + 1, self.steps, "steps")


def prompt_ends(model: PreTrainedModel, path: str, rows: list[dict[str, list[int]]]) -> Tensor:
    """[N, in], what enters the layer `path` at the last token of each row's prompt."""
    import torch

    from polm_bench.models.lookup import caught

    found = []
    for row in rows:
        end = row["labels"].count(-100)
        with caught(model.get_submodule(path), entering=True) as seen, torch.no_grad():
            model(input_ids=torch.tensor([row["input_ids"][:end]], device=model.device))
        found.append(seen[0][0, -1])
    return torch.stack(found)


class Book:
    """Which rows have an entry of their own, and the entries' radii."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.radii: list[float] = []


def arrange(keys: Tensor, answers: list[tuple[int, ...]], radius: float) -> Book:
    """Entries after every row has been put in, in order."""
    book, least = Book(), 1e-3 * radius  # so that an entry's own key still reaches it, whatever batch it is computed in
    for row, key in enumerate(keys):
        if book.rows:
            distances = (keys[book.rows] - key).norm(dim=1)
            nearest = int(distances.argmin())
            distance = float(distances[nearest])
            if distance <= radius + book.radii[nearest]:
                if answers[book.rows[nearest]] == answers[row]:
                    book.radii[nearest] = max(book.radii[nearest], distance)
                    continue
                book.radii[nearest] = min(book.radii[nearest], max(distance / 2, least))
                book.rows.append(row)
                book.radii.append(max(min(radius, distance / 2), least))
                continue
        book.rows.append(row)
        book.radii.append(radius)
    return book
