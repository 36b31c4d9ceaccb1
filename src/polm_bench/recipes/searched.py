"""Preference optimisation whose model is searched while it answers."""

from __future__ import annotations

import dataclasses

from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.graph import FORBID
from polm_bench.recipes.context import Context, Graph
from polm_bench.recipes.preference import Preference


@dataclass(frozen=True, config=FORBID, kw_only=True)
class SearchedPreference(Preference):
    """Preference optimisation, answered by a decoder."""

    decoder: Decoder

    def plan(self, ctx: Context) -> Graph:
        """As `Preference`; the model answers by the decoder, its start as it is."""
        return dataclasses.replace(super().plan(ctx), decoder=self.decoder)
