"""Beam search: the likeliest whole answer among a few that are kept at every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.graph import FORBID

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polm_bench.decoding.plain import PlainLM


@dataclass(frozen=True, config=FORBID)
class BeamSearch(Decoder):
    """`beams` answers are kept at every token, and the one with the highest log-prob per token is given.

    On a policy of DPO that is a search for the answer of the highest implicit reward: log pi is the advantage of the token-level decision process
    whose rewards the preferences tell (Rafailov et al. 2024, arXiv:2404.12358). It applies to every greedy answer; given answers are
    scored plainly. Tokens of all beams are counted.
    """

    beams: Annotated[int, Field(gt=1)]

    def lm(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, seed: int, job: Any
    ) -> PlainLM:
        from polm_bench.decoding.searching import BeamLM

        return BeamLM(model, tokenizer, batch_size, job.progress, self.beams)
