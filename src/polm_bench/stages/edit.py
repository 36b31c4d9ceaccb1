"""Knowledge editing by training: some weights, on the new answers, with a bound or with terms that hold the rest in place."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.editing import EditLoss
from polm_bench.stages.edit_neurons import KnowledgeNeurons
from polm_bench.stages.facts import PickFacts, answer_rows, read_facts
from polm_bench.stages.merge import finish

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.trainers.purse import Purse

    Batch = dict[str, Tensor]


HELD_LENGTH = 64
"""Tokens of a row of text that is to stay; about as many as a fact's prompt and answers have together."""


@dataclass(frozen=True, config=FORBID)
class Place:
    """Which weights an editor may change."""

    weights: str  # regular expression on names; {layer} stands for the layer's number
    depth: float = Field(default=0.0, ge=0, lt=1)  # of that layer, as a share of the model's layers

    def names(self, model: PreTrainedModel) -> list[str]:
        """Raises BadModel where the model has none."""
        pattern = self.weights.replace("{layer}", str(self.layer(model)))
        found = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
        if not found:
            raise BadModel(f"a {model.config.model_type} model has no weight whose name matches {pattern}")
        return found

    def layer(self, model: PreTrainedModel) -> int:
        return int(self.depth * model.config.num_hidden_layers)


@dataclass(frozen=True, config=FORBID)
class Hold:
    """What is trained beside the new answers: the old ones away, other text in place.

    Veldanda et al. 2024, LLM Surgery (arXiv:2409.13054), abstract: minimise -forget * L(old answers) + L(new answers)
    + retain * KL(start || model) on text that is to stay.
    """

    version: ClassVar[int] = 2

    forget: NonNegativeFloat
    retain: NonNegativeFloat
    rows: Rows  # of the role `corpus`


@dataclass(frozen=True, config=FORBID)
class EditByTraining(Stage):
    """All facts in one batch edit: passes over them until their loss is small, the number of passes or the spend is reached.

    With `slots`: Dong et al. 2022, CaliNet (arXiv:2210.03329): GELU(h K^T) V is added to what the MLP of the place's layer says to h, K and V
    [slots, hidden] are trained and the model is not; V starts at 0. With `bound`: Zhu et al. 2020 (arXiv:2012.00363): minimise the loss on the new facts with |theta - theta_0|_inf <= bound, by projection
    after every step.
    """

    init: Stage
    facts: PickFacts
    place: Place
    loss: EditLoss
    spend: Spend
    lr: PositiveFloat  # Adam, constant
    passes: PositiveInt  # at most
    enough: NonNegativeFloat  # nats per token; a pass with less ends the edit
    seed: int
    bound: float | None = None  # largest change of a weight
    hold: Hold | None = None
    ensemble: KnowledgeNeurons | None = None  # the part of the place's weights that is trained
    slots: PositiveInt | None = None  # put beside the MLP of the place's layer

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.bottleneck import Bottleneck
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.structure import write_structure
        from polm_bench.probes.flops import count_flops
        from polm_bench.trainers.purse import Purse

        set_seed(self.seed)
        folder = job.path(self.init)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        if self.slots is not None:
            beside = Bottleneck((f"layers.{self.place.layer(model)}.mlp",), "parallel", "gelu", self.slots)
            beside.apply(model)
            write_structure(beside, job.out)
        names = set(self.place.names(model))
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in names)
        purse = Purse(self.spend, count_flops(model))
        edited = [weight for name, weight in model.named_parameters() if name in names]
        optimizer = torch.optim.Adam(edited, lr=self.lr)
        before = [weight.detach().clone() for weight in edited]
        held = self.hold.rows.read(job, "train") if self.hold else []
        batches = Batches(self.spend, tokenizer, read_facts(job.path(self.facts)), held, model.device)
        start = copy.deepcopy(model) if self.hold else model  # looked at only where something holds the rest in place
        trained = sum(weight.numel() for weight in edited)
        if self.ensemble is not None:
            masks = self.ensemble.masks(model, batches, purse)
            trained = sum(int(mask.sum()) for mask in masks.values())
            for name, mask in masks.items():
                model.get_parameter(name).register_hook(mask.mul)
        for number in range(self.passes):
            losses = [
                self._step(model, batch, optimizer, edited, before, start, purse) for batch in batches.each(purse)
            ]
            mean = sum(losses) / len(losses)
            job.curve(purse.steps, loss=mean, tokens=purse.tokens)
            job.progress(number + 1, self.passes, "passes")
            if mean < self.enough or purse.empty():
                break
        purse.settle(job, trained, model.num_parameters())
        moved = [(a.detach() - b).abs().max().item() for a, b in zip(edited, before, strict=True)]
        job.ledger.note(largest_change=max(moved))
        finish(job, model.eval(), folder)

    def _step(
        self,
        model: PreTrainedModel,
        batch: dict[str, Batch],
        optimizer: Any,
        edited: Sequence[Tensor],
        before: Sequence[Tensor],
        start: PreTrainedModel,
        purse: Purse,
    ) -> float:
        """One step on one batch of facts; the loss on the new answers before it, in nats per token."""
        import torch

        learned = answer_loss(model, batch["new"], self.loss)
        total = learned
        if self.hold is not None:
            total = total - self.hold.forget * answer_loss(model, batch["old"], self.loss)
            total = total + self.hold.retain * drift(model, start, batch["kept"])
            purse.look(lengths_of({"kept": batch["kept"]}))  # by the start
        purse.pay(lengths_of(batch))
        if learned.item() >= self.enough:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            if self.bound is not None:
                with torch.no_grad():
                    for weight, old in zip(edited, before, strict=True):
                        weight.clamp_(old - self.bound, old + self.bound)
        return learned.item()


def lengths_of(batch: Mapping[str, Batch]) -> list[int]:
    """Tokens of every row of all parts."""
    return [int(length) for part in batch.values() for length in part["attention_mask"].sum(1)]


def answer_loss(model: PreTrainedModel, batch: Batch, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Mean over rows of the mean over the answer's tokens, in the unit of `loss`."""
    labels = batch["labels"][:, 1:]
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    counted = labels != -100
    share = counted / counted.sum(1, keepdim=True)
    return (loss(logits[counted], labels[counted]) * share[counted]).sum() / len(labels)


def drift(model: PreTrainedModel, start: PreTrainedModel, batch: Batch) -> Tensor:
    """KL(start || model) in nats, mean over a batch's tokens."""
    import torch
    import torch.nn.functional as F

    told = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        before = start(**told).logits.float().log_softmax(-1)
    each = F.kl_div(model(**told).logits.float().log_softmax(-1), before, log_target=True, reduction="none").sum(-1)
    return (each * batch["attention_mask"]).sum() / batch["attention_mask"].sum()


class Batches:
    """Facts in batches of the budget's size, always in the same order, with the rows that the other terms read."""

    def __init__(
        self,
        spend: Spend,
        tokenizer: PreTrainedTokenizerBase,
        facts: list[Any],
        held: list[Any],
        device: torch.device,
    ) -> None:
        from polm_bench.stages.sft import packed_rows
        from polm_bench.trainers.base import PadRight

        self.device, self.size, self.collate = device, spend.batch, PadRight(tokenizer.pad_token_id)
        self.rows = {
            side: answer_rows(tokenizer, facts, side, spend.max_length)
            for side in (("new", "old") if held else ("new",))
        }
        if held:
            kept = packed_rows(tokenizer, [row["text"] for row in held], min(spend.max_length, HELD_LENGTH))
            self.rows["kept"] = [kept[i % len(kept)] for i in range(len(facts))]

    def each(self, purse: Purse) -> Iterator[dict[str, Batch]]:
        """The batches of one pass, as long as there is something to spend."""
        for begin in range(0, len(self.rows["new"]), self.size):
            if begin and purse.empty():
                return
            yield {side: self._batch(rows[begin : begin + self.size]) for side, rows in self.rows.items()}

    def _batch(self, rows: list[dict[str, list[int]]]) -> Batch:
        return {name: value.to(self.device) for name, value in self.collate(rows).items()}
