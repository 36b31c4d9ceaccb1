"""lm-eval's view of a model that is asked by a method; every token of every answer, retrieved passage and second thought is counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from polm_bench.decoding.method import Question, Way
from polm_bench.decoding.plain import PlainLM
from polm_bench.decoding.sample import pad_left, sample
from polm_bench.decoding.sampling import Sampling
from polm_bench.decoding.score import Pair, score
from polm_bench.decoding.steps import Choose, Written, stop_at, write
from polm_bench.errors import BadOverride
from polm_bench.models.chat import encode_completions, encode_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.models.chat import Message


class Told(NamedTuple):
    """Answers to a batch, as other processes can take them over."""

    texts: list[str]  # with what follows a stop text
    lengths: list[int]  # tokens
    ended: list[bool]


class AskingLM(PlainLM):
    """A model asked in a method's way. Questions of tasks that draw their answers themselves are shown in that way and drawn as the task says."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        seed: int,
        progress: Any,
        way: Way,
    ) -> None:
        super().__init__(model, tokenizer, batch_size, progress)
        self.way = way
        self.seed = seed
        self.turn = 0  # times that answers were drawn
        self.chats: dict[str, list[Message]] = {}  # by the text that the model sees

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        asked = add_generation_prompt and chat_history[-1]["role"] == "user"
        shown = self.way.show(list(chat_history)) if asked else chat_history
        text = super().apply_chat_template(shown, add_generation_prompt)
        if asked:
            self.chats[text] = list(chat_history)
        return text

    def generate_until(self, requests: Any, disable_tqdm: bool = True) -> Any:
        """Answers to questions that are alike in limit and stop texts, in the method's way. Raises BadOverride without a chat template."""
        found: list[str | None] = [None] * len(requests)
        alike: defaultdict[tuple[int, tuple[str, ...]], list[int]] = defaultdict(list)
        drawn = []
        for i, request in enumerate(requests):
            context, given = request.args
            if context not in self.chats:
                raise BadOverride(
                    "this method asks in dialogues, but the suite asks without a chat template (suite.chat=false)"
                )
            how = normalize_gen_kwargs(given, self.max_gen_toks)
            if how["do_sample"]:
                drawn.append(i)
            else:
                until = handle_stop_sequences(how["until"], eos=self.end_text)
                alike[how["max_gen_toks"], tuple(until)].append(i)
        for (limit, until), numbers in alike.items():
            self.questions += len(numbers)
            questions = [Question(self.chats[requests[i].args[0]], limit, until) for i in numbers]
            for i, answer in zip(numbers, self.way.answer(self, questions), strict=True):
                found[i] = answer
        for i, answer in zip(drawn, super().generate_until([requests[i] for i in drawn]) if drawn else [], strict=True):
            found[i] = answer
        return found

    @property
    def end_text(self) -> str:
        return self.tok_decode(self.end, skip_special_tokens=False)

    def encode(self, chats: Sequence[list[Message]], limit: int, begun: Sequence[str] = ()) -> list[list[int]]:
        """Tokens of each dialogue up to the assistant's turn, which has `begun`; one that is too long loses its start."""
        prompts = encode_prompts(self.tokenizer, chats)
        if begun:
            heads = self.tokenizer(list(begun), add_special_tokens=False)["input_ids"]
            prompts = [prompt + head for prompt, head in zip(prompts, heads, strict=True)]
        return [prompt[-(self.max_length - limit) :] for prompt in prompts]

    def likeliest(self, chats: Sequence[list[Message]], like: Question, begun: Sequence[str] = ()) -> list[str]:
        """The greedy answer to each dialogue, within the limit and the stop texts of `like`; without what it has `begun` with."""
        prompts = self.encode(chats, like.limit, begun)
        order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i]))
        found = [""] * len(prompts)
        texts = [text for text in like.until if text != self.end_text]
        size = int(self.batch_size)
        batches = [order[start : start + size] for start in range(0, len(order), size)]

        def answers(rows: list[int]) -> Told:
            ids, mask = pad_left([prompts[i] for i in rows], self.tokenizer.pad_token_id, self.model.device)
            if self.ours:
                return self._told(self._write(ids, mask, like.limit, texts))
            return self._told(self._generate(ids, mask, like.limit, texts, sample=False, how={}))

        for rows, told in zip(batches, self.turns.over(batches, answers), strict=True):
            self._count([len(prompts[i]) for i in rows], told.lengths, told.ended)
            for i, text in zip(rows, told.texts, strict=True):
                found[i] = cut(text, like.until)
        return found

    def _told(self, written: Written) -> Told:
        texts = self.tokenizer.batch_decode(written.ids, skip_special_tokens=True)
        return Told(texts, written.lengths.tolist(), written.ended.tolist())

    def draws(
        self, chats: Sequence[list[Message]], like: Question, count: int, temperature: float, top_p: float = 1.0
    ) -> list[list[str]]:
        """`count` drawn answers to each dialogue; every call draws anew."""
        self.turn += 1
        prompts = self.encode(chats, like.limit)
        found = sample(
            self.model,
            self.tokenizer,
            prompts,
            Sampling(like.limit, temperature, top_p),
            count=count,
            batch_size=int(self.batch_size),
            seed=int(np.random.default_rng([self.seed, self.turn]).integers(2**31)),
            turns=self.turns,
        )
        for prompt, answers in zip(prompts, found, strict=True):
            self._count([len(prompt)] * count, [len(a.ids) for a in answers], [a.ended for a in answers])
        return [[cut(answer.text, like.until) for answer in answers] for answers in found]

    def blended(
        self, groups: Sequence[list[list[Message]]], weights: Sequence[Sequence[float]], like: Question
    ) -> list[str]:
        """One greedy answer to each group of dialogues, at every token the likeliest by the weighted mean of their probabilities."""
        prompts = [self.encode(group, like.limit) for group in groups]
        order = sorted(range(len(groups)), key=lambda i: -max(map(len, prompts[i])))
        found = [""] * len(groups)
        size = max(1, int(self.batch_size) // max(map(len, groups)))
        until = [text for text in like.until if text != self.end_text]
        stop = stop_at(self.tokenizer, until) if until else None
        batches = [order[start : start + size] for start in range(0, len(order), size)]

        def answers(rows: list[int]) -> Told:
            members = [(n, prompt) for n, i in enumerate(rows) for prompt in prompts[i]]
            ids, mask = pad_left([prompt for _, prompt in members], self.tokenizer.pad_token_id, self.model.device)
            choose = blend([n for n, _ in members], [w for i in rows for w in weights[i]], self.model.device)
            pad = self.tokenizer.pad_token_id
            return self._told(write(self.model, ids, mask, like.limit, self.end, pad, choose=choose, stop=stop))

        for rows, told in zip(batches, self.turns.over(batches, answers), strict=True):
            self._count([len(prompt) for i in rows for prompt in prompts[i]], told.lengths, told.ended)
            firsts = [sum(len(prompts[i]) for i in rows[:number]) for number in range(len(rows))]
            for i, first in zip(rows, firsts, strict=True):
                found[i] = cut(told.texts[first], like.until)
        return found

    def logprobs(self, chats: Sequence[list[Message]], answers: Sequence[str], limit: int) -> list[tuple[float, int]]:
        """Log-probability in nats of each answer with its end token, and its tokens."""
        prompts = self.encode(chats, limit)
        completions = [ids[: self.max_length - 1] for ids in encode_completions(self.tokenizer, answers)]
        pairs = [Pair.of(p, c, self.max_length) for p, c in zip(prompts, completions, strict=True)]
        self.read.extend(len(pair.known) + len(pair.asked) for pair in pairs)
        found = score(self.model, pairs, int(self.batch_size), self.tokenizer.pad_token_id, turns=self.turns)
        return [(value.logprob, len(pair.asked)) for value, pair in zip(found, pairs, strict=True)]

    def _count(self, asked: Sequence[int], answered: Sequence[int], ended: Sequence[bool]) -> None:
        self.asked.extend(asked)
        self.answered.extend(answered)
        self.truncated += sum(not end for end in ended)
        self.progress(len(self.answered), 0, "answers")


def blend(groups: Sequence[int], weights: Sequence[float], device: torch.device) -> Choose:
    """The token that all rows of a group take; `groups` and `weights` are by row, and a group's weights add up to 1."""
    group, weight = torch.tensor(groups, device=device), torch.tensor(weights, device=device)

    def choose(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
        chances = torch.softmax(logits.float(), -1) * weight[rows, None]
        sums = chances.new_zeros(int(group.max()) + 1, chances.shape[1]).index_add_(0, group[rows], chances)
        return sums.argmax(-1)[group[rows]]

    return choose


def cut(text: str, until: Sequence[str]) -> str:
    """The text up to the first of the stop texts."""
    for stop in until:
        if stop:
            text = text.split(stop)[0]
    return text
