"""Knowledge editing with neurons of its own: every wrong token of an answer gets one in the last MLP (Transformer-Patcher)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.editing import PatchLoss
from polm_bench.stages.facts import PickFacts, answer_rows, read_facts
from polm_bench.stages.merge import finish

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from polm_bench.trainers.purse import Purse


class Answer(NamedTuple):
    """What the last MLP sees of a row where its answer is said: T tokens, hidden size D."""

    queries: Tensor  # [T, D], what enters the MLP
    states: Tensor  # [T, D], what leaves the last layer
    labels: Tensor  # [T], the tokens to be said


class Patches(NamedTuple):
    """P neurons: GELU(q K^T + b) V is added to what the MLP says."""

    keys: Tensor  # [P, D]
    biases: Tensor  # [P]
    values: Tensor  # [P, D]

    def before(self, queries: Tensor) -> Tensor:
        """[T, P], the neurons' input at queries [T, D]."""
        return queries @ self.keys.T + self.biases

    def added(self, queries: Tensor) -> Tensor:
        """[T, D]."""
        import torch.nn.functional as F

        return F.gelu(self.before(queries)) @ self.values

    def with_more(self, more: Patches) -> Patches:
        import torch

        return Patches(*(torch.cat(pair) for pair in zip(self, more, strict=True)))


@dataclass(frozen=True, config=FORBID)
class EditPatches(Stage):
    """Facts patched one after the other; the model's weights stay as they are.

    Huang et al. 2023, Transformer-Patcher (arXiv:2301.09785): a neuron of the last MLP for each token of the answer that the model, with the patches so
    far, would say wrongly. A key starts at q / |q|^2 of that token, so that its input is 1 there. The memory is what the MLP saw on training rows, and on
    the answers patched before. GELU as in the paper's BERT and BART, whatever the model's own activation is. A value starts at 0, where the authors' draw
    (src/models/patch.py) would change the answer before it is trained.
    What the last MLP sees depends on no patch, so it is computed once a row; a step is paid for the tokens of the answer.
    """

    init: Stage
    facts: PickFacts
    memory: Rows  # of the role `sft`
    memory_rows: PositiveInt  # at most
    loss: PatchLoss
    spend: Spend
    lr: PositiveFloat  # Adam, on keys and biases
    amplify: PositiveFloat  # how much faster the values learn
    clip: PositiveFloat  # largest norm of a gradient
    steps: PositiveInt  # of one fact, at most
    most: PositiveInt  # patches of one fact
    enough: PositiveFloat  # activation loss at which a fact that is said rightly is done
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from transformers import set_seed

        from polm_bench.models.bottleneck import Bottleneck
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.models.structure import write_structure
        from polm_bench.probes.flops import count_flops
        from polm_bench.stages.sft import completion_rows
        from polm_bench.trainers.purse import Purse
        from polm_bench.trainers.schedule import schedule

        set_seed(self.seed)
        folder = job.path(self.init)
        model, tokenizer = load_model(folder, "float32", job.device), load_tokenizer(folder)
        model.requires_grad_(False)
        length, flops = self.spend.max_length, count_flops(model)
        known = completion_rows(tokenizer, self.memory.read(job, "train"), length)
        lengths = [len(row["input_ids"]) for row in known]
        payable = schedule(lengths, lengths, self.spend, self.seed, self.spend.batch).rows()[: self.memory_rows]
        facts = answer_rows(tokenizer, read_facts(job.path(self.facts)), "new", length)
        seen = [known[row] for row in payable]
        memory = torch.cat([answer(model, row).queries for row in seen])
        purse, patches, done = Purse(self.spend, flops), none(model), 0
        for row in facts:
            if purse.empty():
                break
            said = answer(model, row)
            patches = patches.with_more(self._learn(job, model, said, patches, memory, purse))
            memory = torch.cat([memory, said.queries])
            done += 1
            job.progress(done, len(facts), "facts")
        size = len(patches.biases)
        purse.settle(job, sum(part.numel() for part in patches), model.num_parameters())
        read = [len(row["input_ids"]) for row in (*seen, *facts[:done])]
        job.ledger.add(tokens_scored=sum(read), flops=sum(map(flops.score, read)))
        job.ledger.note(edited=done, patches=size)
        if size:
            structure = Bottleneck(at=(place(model),), form="parallel", activation="gelu", size=size)
            structure.apply(model)
            fill(model.get_submodule(place(model)), patches)
            write_structure(structure, job.out)
        finish(job, model, folder)

    def _learn(
        self, job: Any, model: PreTrainedModel, said: Answer, earlier: Patches, memory: Tensor, purse: Purse
    ) -> Patches:
        """New patches for one answer, none where it is said already."""
        import torch
        import torch.nn.functional as F

        fixed = said.states + earlier.added(said.queries)
        wrong = (head(model, fixed).argmax(-1) != said.labels).nonzero()[: self.most, 0]
        queries = said.queries[wrong]
        keys = (queries / queries.square().sum(1, keepdim=True)).requires_grad_(True)
        biases, raw = (like.new_zeros(like.shape).requires_grad_(True) for like in (queries[:, 0], queries))
        optimizer = torch.optim.Adam([keys, biases, raw], lr=self.lr)
        for _ in range(self.steps if len(wrong) else 0):
            patches = Patches(keys, biases, self.amplify * raw)
            logits = head(model, fixed + patches.added(said.queries))
            own, other = patches.before(queries).diagonal(), patches.before(memory)
            right = bool((logits.argmax(-1) == said.labels).all())
            if right and float(self.loss.activation(own.detach())) < self.enough:
                break
            learned = F.cross_entropy(logits, said.labels)
            optimizer.zero_grad()
            (learned + self.loss(own, other)).backward()
            torch.nn.utils.clip_grad_norm_([keys, biases, raw], self.clip)
            optimizer.step()
            purse.pay([len(said.labels)])
            job.curve(purse.steps, loss=learned.item())
            if purse.empty():
                break
        return Patches(keys.detach(), biases.detach(), self.amplify * raw.detach())


def place(model: PreTrainedModel) -> str:
    """Name of the last layer's MLP."""
    return f"model.layers.{model.config.num_hidden_layers - 1}.mlp"


def none(model: PreTrainedModel) -> Patches:
    """No patches at all."""
    import torch

    width = torch.zeros(0, model.config.hidden_size, device=model.device)
    return Patches(width, width[:, 0], width)


def answer(model: PreTrainedModel, row: dict[str, list[int]]) -> Answer:
    """Raises BadModel where more stands between the last MLP and the logits than a sum, a norm and the head."""
    import torch

    from polm_bench.models.lookup import caught

    start = row["labels"].count(-100) - 1
    mlp, layer = (model.get_submodule(name) for name in (place(model), place(model).removesuffix(".mlp")))
    with caught(mlp, entering=True) as entered, caught(layer) as left, torch.no_grad():
        logits = model(input_ids=torch.tensor([row["input_ids"]], device=model.device)).logits[0, start:-1]
    found = Answer(
        entered[0][0, start:-1], left[0][0, start:-1], torch.tensor(row["labels"][start + 1 :], device=model.device)
    )
    if not torch.allclose(head(model, found.states), logits, atol=1e-3):
        raise BadModel(f"a {model.config.model_type} model can't be patched: its head reads more than its last layer")
    return found


def head(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Logits [T, V] from what leaves the last layer, [T, D]."""
    logits: Tensor = model.get_output_embeddings()(model.get_decoder().norm(states))
    return logits


def fill(beside: Any, patches: Patches) -> None:
    """Make the neurons of a bottleneck beside the last MLP the patches."""
    beside.down.weight.data.copy_(patches.keys)
    beside.down.bias.data.copy_(patches.biases)
    beside.up.weight.data.copy_(patches.values.T)
