"""Keys and values kept in fewer bits while the model answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.plain import PlainLM


@dataclass(frozen=True, config=FORBID)
class Kivi(Decoder):
    """Keys in groups per channel, values in groups per token, the newest tokens in full.

    Liu et al. 2024 (arXiv:2402.02750; the authors' models/llama_kivi.py). The prompt is read in full precision, as there; what is read afterwards sees
    the small cache.
    """

    bits: Literal[2, 4, 8]
    group: int = Field(gt=0)  # values that share a scale and a minimum (half precision)
    residual: int = Field(gt=0)  # newest tokens kept as they are; a multiple of `group`

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        from polm_bench.decoding.kivi import KiviLM

        config = model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if self.residual % self.group or size % self.group:
            raise BadOverride(
                f"groups of {self.group} must divide the residual of {self.residual} tokens and the model's head size of {size}"
            )
        return KiviLM(model, tokenizer, batch_size, job.progress, self)
