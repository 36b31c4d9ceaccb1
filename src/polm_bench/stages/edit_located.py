"""Knowledge editing where the fact is looked up: closed-form changes of a layer at the subject's last token."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.facts import PickFacts, read_facts
from polm_bench.stages.merge import finish


@dataclass(frozen=True, config=FORBID)
class ValueSearch:
    """How the value is found that makes the model say the new answer: Adam on a vector added at the subject's last token.

    Meng et al. 2022, ROME (arXiv:2202.05262), Eq. 4: mean over contexts of -log p(new | context, question), plus KL(with the vector || without it) of what
    "{subject} is a" continues with. The decay and the norm's bound are the authors' (rome/compute_v.py).
    """

    steps: PositiveInt
    lr: PositiveFloat
    kl: NonNegativeFloat  # weight of the KL
    decay: NonNegativeFloat  # weight of |delta| / |value|^2
    clamp: PositiveFloat  # largest |delta| as a multiple of |value|
    enough: NonNegativeFloat  # nats; less ends the search
    contexts: NonNegativeInt  # texts put before the question, beside none
    words: PositiveInt  # of each such text


@dataclass(frozen=True, config=FORBID)
class EditLocated(Stage):
    """`rome`: fact after fact, each a rank-one change of one MLP's last layer. `memit`: all facts at once, spread over several layers.

    Meng et al. 2022 (arXiv:2202.05262) and 2023 (arXiv:2210.07229). The texts before the question are first words of the role `corpus`, not
    sampled from the model; C = E[k k^T] is taken over rows of it too.
    """

    version: ClassVar[int] = 2

    init: Stage
    facts: PickFacts
    corpus: Rows
    method: Literal["rome", "memit"]
    depths: Annotated[tuple[float, ...], Field(min_length=1)]  # of the layers, as shares of the model's layers
    search: ValueSearch
    moment_rows: PositiveInt  # rows of text for C, at most
    moment_weight: (
        PositiveFloat  # memit's lambda, how many times C counts against the facts, for each input of the layer
    )
    spend: Spend
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.lookup import Lookup, moment
        from polm_bench.objectives.editing import rank_one, spread
        from polm_bench.probes.flops import count_flops
        from polm_bench.stages.sft import packed_rows
        from polm_bench.trainers.purse import Purse
        from polm_bench.trainers.schedule import schedule

        set_seed(self.seed)
        folder = job.path(self.init)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        model.requires_grad_(False)
        facts, texts = read_facts(job.path(self.facts)), [row["text"] for row in self.corpus.read(job, "train")]
        held = packed_rows(tokenizer, texts, min(self.spend.max_length, MOMENT_LENGTH))
        payable = schedule(
            [len(row["input_ids"]) for row in held], [MOMENT_LENGTH] * len(held), self.spend, self.seed, 1
        )
        held = [held[row] for row in payable.rows()[: self.moment_rows]]  # no more text than training could have read
        starts = [
            " ".join(text.split()[: self.search.words]).rstrip(".,;:!?") for text in texts[: self.search.contexts]
        ]
        purse = Purse(self.spend, count_flops(model))
        look = Lookup(model, tokenizer, self.search, starts, purse)
        count = model.config.num_hidden_layers
        layers = sorted({min(int(depth * count), count - 1) for depth in self.depths})
        moments = {layer: moment(model, layer, held) for layer in layers}
        done = 0
        with torch.no_grad():
            if self.method == "memit":
                goals, done = look.values(facts, layers[-1], "layer")
                for left, layer in zip(range(len(layers), 0, -1), layers, strict=True):
                    keys = look.keys(facts[:done], layer)
                    residuals = (goals - look.states(facts[:done], layers[-1], "layer")) / left
                    weight = look.weight(layer)
                    times = self.moment_weight * weight.shape[1]
                    change = spread(keys.T, residuals.T, moments[layer], times)
                    weight += change.to(weight.dtype)
                    job.progress(len(layers) - left + 1, len(layers), "layers")
            else:
                for fact in facts:
                    values, found = look.values([fact], layers[0], "mlp")
                    if not found:
                        break
                    weight = look.weight(layers[0])
                    weight += rank_one(weight, look.keys([fact], layers[0])[0], values[0], moments[layers[0]])
                    done += 1
                    job.progress(done, len(facts), "facts")
        purse.settle(job, sum(look.weight(layer).numel() for layer in layers), model.num_parameters())
        job.ledger.note(edited=done)
        finish(job, model, folder)


MOMENT_LENGTH = 64
"""Tokens of a row of text for C."""
