"""Task arithmetic with coefficients learnt without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.stages.merge import finish, put, same_weights, weights_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, config=FORBID)
class LearnCoefficients(Stage):
    """Layer-wise AdaMerging: one coefficient for each weight tensor and task, so that the merged model is sure of its predictions.

    Yang et al. 2024 (arXiv:2310.02575; the authors' src/main_layer_wise_adamerging.py): theta^l = theta_0^l + sum_t lambda_t^l tau_t^l;
    minimise over lambda the entropy of the predictions on unlabelled inputs, summed over the tasks. A class prediction there is the distribution of
    the answer's first token here. The inputs are prompts of the training split; the authors take the test's.
    """

    base: Stage
    models: tuple[Stage, ...]
    data: tuple[Rows, ...]  # one a model
    spend: Spend
    steps: PositiveInt  # at most; the spend may end earlier
    batch: PositiveInt  # prompts of each task in a step
    prior: Annotated[float, Field(ge=0, le=1)]  # coefficient to start from
    lr: PositiveFloat
    seed: int

    def run(self, job: Any) -> None:
        import torch
        from torch.func import functional_call

        from polm_bench.decoding.sample import pad_left
        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer
        from polm_bench.probes.flops import count_flops
        from polm_bench.trainers.purse import Purse

        folder = job.path(self.base)
        model = load_model(folder, "float32", job.device)
        start = weights_of(model)
        tuned = [same_weights(start, job.path(stage)) for stage in self.models]
        vectors = {name: torch.stack([one[name].to(w.device) - w for one in tuned]) for name, w in start.items()}
        raw = torch.full((len(start), len(tuned)), self.prior, device=model.device, requires_grad=True)
        optimizer = torch.optim.Adam([raw], lr=self.lr)
        tokenizer = load_tokenizer(folder)
        prompts = [encode_prompts(tokenizer, [row["prompt"] for row in rows.read(job, "train")]) for rows in self.data]
        draw = torch.Generator().manual_seed(self.seed)
        purse = Purse(self.spend, count_flops(model))
        while purse.steps < self.steps and not purse.empty():
            merged = combine(start, vectors, raw.clamp(0, 1))
            losses: list[Tensor] = []
            lengths: list[int] = []
            for rows in prompts:
                chosen = [rows[i] for i in torch.randint(len(rows), (self.batch,), generator=draw).tolist()]
                ids, mask = pad_left(chosen, tokenizer.pad_token_id, model.device)
                told = {"input_ids": ids, "attention_mask": mask, "logits_to_keep": 1}
                losses.append(entropy(functional_call(model, merged, (), told).logits[:, -1]).mean())
                lengths.extend(map(len, chosen))
            loss = torch.stack(losses).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            purse.pay(lengths)
            job.curve(purse.steps, loss=loss.item())
            job.progress(purse.used(), self.spend.amount, self.spend.unit)
        purse.settle(job, raw.numel(), model.num_parameters())
        with torch.no_grad():
            put(model, combine(start, vectors, raw.clamp(0, 1)))
        finish(job, model, folder)


def combine(start: dict[str, Tensor], vectors: dict[str, Tensor], coefficients: Tensor) -> dict[str, Tensor]:
    """theta_0 + sum_t lambda_t tau_t by name of the weight. `vectors` hold [task, ...], coefficients are [weight, task]."""
    import torch

    return {
        name: weight + torch.tensordot(row, vectors[name], dims=1)
        for (name, weight), row in zip(start.items(), coefficients, strict=True)
    }


def entropy(logits: Tensor) -> Tensor:
    """Nats, [B], of the distributions with logits [B, V]."""
    logps = logits.float().log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)
