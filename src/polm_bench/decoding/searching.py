"""lm-eval's view of a model that is searched with several beams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from polm_bench.decoding.plain import PlainLM
from polm_bench.decoding.steps import Written

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class BeamLM(PlainLM):
    """Greedy answers by beam search of `model.generate`; stop texts cut an answer when it is whole."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, progress: Any, beams: int
    ) -> None:
        super().__init__(model, tokenizer, batch_size, progress)
        self.beams = beams

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        if kwargs.get("do_sample"):
            return super()._model_generate(context, max_length, stop, **kwargs)
        mask = kwargs["attention_mask"]
        with torch.inference_mode():
            whole = self.model.generate(
                input_ids=context,
                attention_mask=mask,
                max_length=max_length,
                num_beams=self.beams,
                do_sample=False,
                eos_token_id=self.end,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=True,
            )
        written = Written.of(whole[:, context.shape[1] :], self.end)
        lengths = written.lengths.tolist()
        self.answered.extend(lengths * self.beams)
        self.asked.extend(mask.sum(1).tolist() * self.beams)
        self.truncated += int((~written.ended).sum())
        self.progress(len(self.answered) // self.beams, 0, "answers")
        return whole
