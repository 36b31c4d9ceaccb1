"""Contrast: what a strong view of the next token likes more than a weak one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.plain import PlainLM


@dataclass(frozen=True, config=FORBID)
class Contrastive(Decoder):
    """The model against a weaker one of the same vocabulary, here the base that it was tuned from.

    O'Brien and Lewis 2023 (arXiv:2309.09117): (1 + beta) s_expert - beta s_amateur over the tokens whose expert probability is at least alpha
    times the highest (Li et al. 2023, arXiv:2210.15097, Section 3.3); s are logits. It applies to every answer; given answers are scored plainly.
    """

    version: ClassVar[int] = 3

    alpha: Annotated[float, Field(gt=0, le=1)]
    beta: Annotated[float, Field(gt=0)]
    amateur: Stage | None = None  # None: the recipe puts the base here

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        from polm_bench.decoding.contrasting import ContrastLM, against, amateur_price
        from polm_bench.models.load import load_model

        if self.amateur is None:
            raise TypeError("Contrastive was not given an amateur")
        weak = load_model(job.path(self.amateur), job.launch.dtype, job.device)
        if weak.config.vocab_size != model.config.vocab_size:
            raise BadModel("contrastive decoding compares two models token by token, but their vocabularies differ")
        ask = against(model, weak, self.alpha, self.beta)
        return ContrastLM(model, tokenizer, batch_size, job.progress, ask, amateur_price(weak))


@dataclass(frozen=True, config=FORBID)
class DoLa(Decoder):
    """The last layer against an earlier one, at each token the one that differs most from it.

    Chuang et al. 2024 (arXiv:2309.03883), Eqs. 2 to 5: the earlier layer M has the largest Jensen-Shannon divergence from the last, N; the score is
    log q_N - log q_M over the tokens whose probability in N is at least alpha times the highest. It applies to every answer; given answers are scored
    plainly. The penalty is for what the answer has said; in the authors' code (voidism/DoLa, transformers-4.28.1) for the prompt's tokens too.
    """

    version: ClassVar[int] = 2

    alpha: Annotated[float, Field(gt=0, le=1)]
    layers: tuple[int, ...]  # earlier layers to choose from, after how many blocks; 0 is the embedding
    penalty: Annotated[
        float, Field(ge=1)
    ]  # of tokens that the answer has already (Keskar et al. 2019, arXiv:1909.05858, Section 4.1)

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        from polm_bench.decoding.contrasting import ContrastLM, earlier, head_price

        known = [layer for layer in self.layers if layer < model.config.num_hidden_layers]
        if not known:
            raise BadModel(
                f"the model has {model.config.num_hidden_layers} layers, none of those asked for: {self.layers}"
            )
        ask, price = earlier(known, self.alpha), head_price(model, len(known))
        return ContrastLM(model, tokenizer, batch_size, job.progress, ask, price, self.penalty)
