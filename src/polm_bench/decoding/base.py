"""How a model answers, as part of an evaluation's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.plain import PlainLM


@dataclass(frozen=True, config=FORBID)
class Decoder:
    """A method that works while the model answers and changes no weight. Its fields are its numbers; a stage among them is an input."""

    version: ClassVar[int] = 1
    """Raise it when what the method does, or what is told of its cost, changes."""

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        """The model as lm-eval asks it. `job` reaches input stages (`job.path`) and shows progress."""
        raise TypeError(f"{type(self).__name__} does not say how it answers")
