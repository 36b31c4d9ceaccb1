"""Looking ahead: a sentence of which the model is not sure finds passages, and is written again with them in sight."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.method import Question, Way
from polm_bench.decoding.retrieval import Reading, Retrieve, Shelf
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.foreseeing import ForeseeingLM

Chance = Annotated[float, Field(ge=0, le=1)]
SENTENCE = re.compile(r"[.!?](?=\s)|\n")
"""Where a sentence ends; a point in a number is no end."""


class Token(NamedTuple):
    """A token of an answer."""

    text: str
    chance: float  # the model's probability of it


@dataclass(frozen=True, config=FORBID, kw_only=True)
class Flare(Retrieve):
    """FLARE direct: retrieval wherever the next sentence has a token that the model is not sure of.

    Jiang et al. 2023 (arXiv:2305.06983), Section 3.2: the question finds the first passages; a sentence whose tokens all have a probability of at least
    `sure` (theta there) stays; else it is the query, without its tokens below `mask` (beta there), and is written anew with what it finds. The passages stay
    in sight until others are found, as in the authors' configs/2wikihop_flare_config.json; what is written under the same passages stays as it is. It
    applies to every question. Where answers are given and only scored, the first passages are shown.
    """

    sure: Chance
    mask: Chance

    def way(self, job: Any) -> Way:
        return Foreseeing(self, self.opened(job))

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> ForeseeingLM:
        from polm_bench.decoding.foreseeing import ForeseeingLM

        return ForeseeingLM(model, tokenizer, batch_size, seed, job.progress, self.way(job))


class Foreseeing(Reading):
    """`Flare` at work."""

    def __init__(self, method: Flare, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.method = method

    def answer(self, lm: ForeseeingLM, questions: Sequence[Question]) -> list[str]:  # type: ignore[override]
        found = [self.shelf.find(question.chat[-1]["content"]) for question in questions]
        written: list[list[Token]] = [[] for _ in questions]
        again = [False] * len(questions)  # whether the next sentence is there to stay
        open_ = list(range(len(questions)))
        while open_:
            asked = [self.shelf.shown(questions[i].chat, found[i]) for i in open_]
            drafts = lm.drafts(asked, questions[0], [text(written[i]) for i in open_])
            left = []
            for i, draft in zip(open_, drafts, strict=True):
                kept, unsure = self._looked_at(draft, found[i], again[i])
                written[i] += kept
                if unsure and len(written[i]) < questions[i].limit:
                    found[i], again[i] = unsure, True
                    left.append(i)
            open_ = left
        return [text(tokens[: question.limit]) for tokens, question in zip(written, questions, strict=True)]

    def _looked_at(self, draft: list[Token], found: list[Any], again: bool) -> tuple[list[Token], list[Any]]:
        """What stays of a draft, and other passages for the sentence after it; none where the draft stays as a whole."""
        kept: list[Token] = []
        for number, sentence in enumerate(sentences(draft)):
            if (number or not again) and min(token.chance for token in sentence) < self.method.sure:
                passages = self.shelf.find(text([token for token in sentence if token.chance >= self.method.mask]))
                if passages and [one.text for one in passages] != [one.text for one in found]:
                    return kept, passages
            kept += sentence
        return kept, []


def text(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)


def sentences(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens by sentence; a token in which one ends belongs to it."""
    found: list[list[Token]] = [[]]
    whole, at = text(tokens), 0
    ends = [match.end() for match in SENTENCE.finditer(whole)]
    for token in tokens:
        at += len(token.text)
        found[-1].append(token)
        if ends and at >= ends[0]:
            ends = [end for end in ends if end > at]
            found.append([])
    return [sentence for sentence in found if sentence]
