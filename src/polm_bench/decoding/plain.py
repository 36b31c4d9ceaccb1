"""The model answers as it is; every token it reads and writes is counted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria  # the criteria HFLM itself uses
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of its own defaults, once a task


class PlainLM(HFLM):
    """lm-eval's HFLM with counts, and without its check of every row's text at every generated token when only the end token stops."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, progress: Any
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
        self.end = tokenizer.eos_token_id
        self.progress = progress
        self.read: list[int] = []  # tokens of each scored sequence
        self.asked: list[int] = []  # tokens of each prompt that was answered
        self.answered: list[int] = []  # tokens of each answer, end token included
        self.truncated = 0  # answers that reached the limit without an end token

    # lm-eval calls these three without a say on its own bars, which would run through ours.
    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
        requests = list(requests)
        self.read.extend(len(context) + len(continuation) for _, context, continuation in requests)
        self.progress(len(self.read), 0, "sequences scored")
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        temperature = kwargs.pop("temperature", 0.0)
        sample = bool(kwargs.pop("do_sample", temperature > 0)) and temperature > 0
        if sample:
            kwargs["temperature"] = temperature
        mask = kwargs["attention_mask"]
        texts = [text for text in stop if text != self.tok_decode(self.end, skip_special_tokens=False)]
        if texts:
            kwargs["stopping_criteria"] = stop_sequences_criteria(
                self.tokenizer, texts, context.shape[1], context.shape[0]
            )
        with torch.inference_mode():
            whole = self.model.generate(
                input_ids=context,
                max_length=max_length,
                do_sample=sample,
                eos_token_id=self.end,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=True,
                **kwargs,
            )
        self._count(whole[:, context.shape[1] :], mask)
        return whole

    def _count(self, answers: torch.Tensor, mask: torch.Tensor) -> None:
        ended = (answers == self.end).int()
        lengths = torch.where(ended.any(1), ended.argmax(1) + 1, answers.shape[1])
        self.answered.extend(lengths.tolist())
        self.asked.extend(mask.sum(1).tolist())
        self.truncated += int((~ended.any(1)).sum())
        self.progress(len(self.answered), 0, "answers")


@dataclass(frozen=True, config=FORBID)
class Plain(Decoder):
    """The model as it is."""

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        return PlainLM(model, tokenizer, batch_size, job.progress)
