"""Rewards: how good an answer is, as one number."""

from __future__ import annotations

from polm_bench.rewards.base import Reward, Scorer
from polm_bench.rewards.checked import Checked
from polm_bench.rewards.lexicon import Lexicon

__all__ = ["Checked", "Lexicon", "Reward", "Scorer"]
