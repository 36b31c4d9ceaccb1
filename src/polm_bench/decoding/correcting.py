"""A small model behind the model: it rewrites every answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.data.corrections import request
from polm_bench.decoding.method import Method, Question, Way
from polm_bench.graph import FORBID, Stage

if TYPE_CHECKING:
    from polm_bench.decoding.asking import AskingLM


@dataclass(frozen=True, config=FORBID)
class Corrected(Method):
    """A second model is asked to better each answer, and its answer is given.

    Ji et al. 2024 (Aligner, arXiv:2402.02416), Section 2: mu(y_c | y_o, x) behind pi(y_o | x), whose weights are not needed. It applies to every
    question; given answers are scored plainly. Tokens of both models are counted, at the first one's price.
    """

    version: ClassVar[int] = 2

    question: str  # with {prompt} and {answer}
    corrector: Stage | None = None  # None: the recipe puts it here

    def way(self, job: Any) -> Way:
        from polm_bench.models.load import load_model, load_tokenizer

        if self.corrector is None:
            raise TypeError("Corrected was not given a corrector")
        folder = job.path(self.corrector)
        return Correcting(self, load_model(folder, job.launch.dtype, job.device), load_tokenizer(folder), job.progress)


class Correcting(Way):
    """`Corrected` at work."""

    def __init__(self, method: Corrected, model: Any, tokenizer: Any, progress: Any) -> None:
        self.method, self.model, self.tokenizer, self.progress = method, model, tokenizer, progress
        self.second: AskingLM | None = None

    def answer(self, lm: AskingLM, questions: Sequence[Question]) -> list[str]:
        found = super().answer(lm, questions)
        if self.second is None:
            self.second = type(lm)(self.model, self.tokenizer, int(lm.batch_size), lm.seed, self.progress, Way())
            self.second.turns = lm.turns
        asked = [
            request(self.method.question, {"prompt": question.chat}, text.strip())
            for question, text in zip(questions, found, strict=True)
        ]
        before = len(self.second.asked)
        better = self.second.likeliest(asked, questions[0])
        lm.asked.extend(self.second.asked[before:])
        lm.answered.extend(self.second.answered[before:])
        return better
