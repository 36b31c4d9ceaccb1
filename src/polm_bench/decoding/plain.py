"""The model answers as it is; every token it reads and writes is counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator, normalize_gen_kwargs
from lm_eval.models.utils_hf import stop_sequences_criteria  # the criteria HFLM itself uses
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.decoding.score import Pair, score
from polm_bench.decoding.steps import Written, has_plain_cache, stop_at, write
from polm_bench.decoding.turns import ALONE
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of its own defaults, once a task


class PlainLM(HFLM):
    """lm-eval's HFLM with counts, and with our loop for greedy answers (`decoding/steps.py`) and for scores (`decoding/score.py`).

    Where a model's cache is not the plain one, and where a task samples, `model.generate` and HFLM's own scoring do the work.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, progress: Any
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
        self.end = tokenizer.eos_token_id
        self.progress = progress
        self.ours = has_plain_cache(model)
        self.turns = ALONE
        self.read: list[int] = []  # tokens of each scored sequence
        self.asked: list[int] = []  # tokens of each prompt that was answered
        self.answered: list[int] = []  # tokens of each answer, end token included
        self.truncated = 0  # answers that reached the limit without an end
        self.questions = 0  # that were to be answered; a method may write several answers to one
        self._tokens: dict[str, list[int]] = {}

    def new_cache(self) -> Cache | None:
        """Keys and values of one batch, for a method that keeps them in its own way; None: as they are."""
        return None

    def beside(self) -> tuple[int, float]:
        """Tokens that other models read for all answers, and FLOPs of what is computed for them beside the model's own passes."""
        return 0, 0.0

    # lm-eval calls these three without a say on its own bars, which would run through ours.
    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        self.questions += len(requests)
        self._tokenize([request.args[0] for request in requests])
        if self.turns.processes > 1:
            return self._in_turns(requests)
        return super().generate_until(requests, disable_tqdm=disable_tqdm)

    def _in_turns(self, requests: Sequence[Any]) -> list[str]:
        """Answers of all processes, each of which writes whole batches of those that one process would write; counts are of all of them."""
        mine = self._share(requests)
        before = len(self.asked), len(self.answered), self.truncated
        found = super().generate_until([requests[i] for i in mine], disable_tqdm=True) if mine else []
        asked, answered, truncated = self.asked[before[0] :], self.answered[before[1] :], self.truncated - before[2]
        parts = self.turns.everyone((mine, found, asked, answered, truncated))
        self.asked[before[0] :] = [count for part in parts for count in part[2]]
        self.answered[before[1] :] = [count for part in parts for count in part[3]]
        self.truncated = before[2] + sum(part[4] for part in parts)
        answers = {i: answer for part in parts for i, answer in zip(part[0], part[1], strict=True)}
        return [answers[i] for i in range(len(requests))]

    def _share(self, requests: Sequence[Any]) -> list[int]:
        """Numbers of the requests in this process's batches. Answers that a task draws are the first process's, as there is one random state."""
        asked = [(*request.args, i) for i, request in enumerate(requests)]
        batches = Collator(  # as in HFLM.generate_until
            asked,
            sort_fn=lambda one: (-len(self.tok_encode(one[0])), one[0]),
            group_by="gen_kwargs",
            group_fn=lambda one: one[1],
        ).get_batched(n=int(self.batch_size))
        greedy: list[list[int]] = []
        drawn: list[int] = []
        for batch in batches:
            numbers = [i for _, _, i in batch]
            if normalize_gen_kwargs(batch[0][1], self.max_gen_toks)["do_sample"]:
                drawn.extend(numbers)
            else:
                greedy.append(numbers)
        return sorted([i for batch in self.turns.mine(greedy) for i in batch] + drawn * (self.turns.rank == 0))

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        texts = [context + continuation for context, continuation in (request.args for request in requests)]
        self._tokenize([*(request.args[0] for request in requests), *texts])
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = True) -> Any:
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _tokenize(self, texts: list[str]) -> None:
        """Keep the tokens of texts that HFLM will ask for one by one: all at once takes a tenth of the time."""
        start = self.tokenizer.decode(self.prefix_token_id)
        new = [text for text in dict.fromkeys(texts) if text and not text.startswith(start)]
        special = {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}
        self._tokens = dict(zip(new, self.tokenizer(new, **special)["input_ids"], strict=True)) if new else {}

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **kwargs: Any
    ) -> list[int]:
        if add_special_tokens is None and not kwargs and string in self._tokens:
            ids = self._tokens[string]
            return ids[-left_truncate_len:] if left_truncate_len else list(ids)
        return super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = True, override_bs: int | None = None) -> Any:
        requests = list(requests)
        self.read.extend(len(context) + len(continuation) for _, context, continuation in requests)
        self.progress(len(self.read), 0, "sequences scored")
        if not self.ours:
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        pairs = [Pair.of(context, continuation, self.max_length) for _, context, continuation in requests]
        size = override_bs or int(self.batch_size)
        return score(self.model, pairs, size, self.tokenizer.pad_token_id, self.new_cache, self.turns)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any) -> torch.Tensor:
        temperature = kwargs.pop("temperature", 0.0)
        sample = bool(kwargs.pop("do_sample", temperature > 0)) and temperature > 0
        mask = kwargs.pop("attention_mask")
        texts = [text for text in stop if text != self.tok_decode(self.end, skip_special_tokens=False)]
        limit = max_length - context.shape[1]
        if self.ours and not sample and not kwargs:
            written = self._write(context, mask, limit, texts)
        else:
            if sample:
                kwargs["temperature"] = temperature
            written = self._generate(context, mask, limit, texts, sample, kwargs)
        self.answered.extend(written.lengths.tolist())
        self.asked.extend(mask.sum(1).tolist())
        self.truncated += int((~written.ended).sum())
        self.progress(len(self.answered), 0, "answers")
        return torch.cat([context, written.ids], 1)

    def _write(self, ids: torch.Tensor, mask: torch.Tensor, limit: int, texts: list[str]) -> Written:
        """The likeliest answer to each prompt."""
        stop = stop_at(self.tokenizer, texts) if texts else None
        pad = self.tokenizer.pad_token_id
        return write(self.model, ids, mask, limit, self.end, pad, stop=stop, cache=self.new_cache())

    def _generate(
        self, ids: torch.Tensor, mask: torch.Tensor, limit: int, texts: list[str], sample: bool, how: dict[str, Any]
    ) -> Written:
        """The same by `model.generate`; `how` holds what a task asks for beside."""
        if texts:
            how["stopping_criteria"] = stop_sequences_criteria(self.tokenizer, texts, ids.shape[1], ids.shape[0])
        if (cache := self.new_cache()) is not None:
            how["past_key_values"] = cache
        with torch.inference_mode():
            whole = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_length=ids.shape[1] + limit,
                do_sample=sample,
                eos_token_id=self.end,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=True,
                **how,
            )
        return Written.of(whole[:, ids.shape[1] :], self.end)


@dataclass(frozen=True, config=FORBID)
class Plain(Decoder):
    """The model as it is."""

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        return PlainLM(model, tokenizer, batch_size, job.progress)
