"""Draws with replacement and random signs, made once and shared by every score of the same number of clusters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000  # a bound then wobbles by about 3 % of the half width between generators
FLIPS = 9999  # so the smallest p-value is 1e-4
_CELLS = 8_000_000  # numbers held at a time while resampling, 64 MB


class Bootstrap:
    """Draws of clusters with replacement, made once per number of clusters and reused by every score that has as many.

    What is drawn for C clusters depends on the generator and C alone, not on what was asked before.
    """

    def __init__(self, rng: np.random.Generator, resamples: int = RESAMPLES, flips: int = FLIPS) -> None:
        self.resamples = resamples
        self.flips = flips
        self._entropy = int(rng.integers(2**63))
        self._counts: dict[int, list[Array]] = {}

    def means(self, sums: Array, weights: Array) -> Array:
        """Resampled weighted means [B] or [B, M], from each cluster's weighted sums of scores [C] or [C, M] and sum of weights [C]."""
        columns = np.column_stack([sums, weights])
        drawn = np.concatenate([counts @ columns for counts in self._draws(len(sums))])
        found = np.asarray(drawn[:, :-1] / drawn[:, -1:])
        return found[:, 0] if sums.ndim == 1 else found

    def seed_means(self, effects: Array) -> Array:
        """Means [B] of seed effects [S] drawn with replacement."""
        picks = self._generator(1, len(effects)).integers(len(effects), size=(self.resamples, len(effects)))
        return effects[picks].mean(axis=1)

    def flipped(self, sums: Array) -> Iterator[Array]:
        """Sums over clusters [C] or [C, M] under random signs, in blocks; all `2^C` patterns where these are fewer than the flips."""
        groups = len(sums)
        if 2**groups <= self.flips:
            patterns = np.arange(2**groups)[:, None] >> np.arange(groups)[None, :]
            yield sums.sum(axis=0) - 2 * ((patterns & 1).astype(np.float64) @ sums)
            return
        rng = self._generator(2, groups)
        for rows in _blocks(self.flips, groups):
            bits = np.unpackbits(np.frombuffer(rng.bytes(rows * groups // 8 + 1), dtype=np.uint8), count=rows * groups)
            yield sums.sum(axis=0) - 2 * (bits.reshape(rows, groups).astype(np.float64) @ sums)

    def _generator(self, use: int, groups: int) -> np.random.Generator:
        return np.random.default_rng([self._entropy, use, groups])

    def _draws(self, groups: int) -> Iterator[Array]:
        """How often each cluster is drawn, [rows, C] per block."""
        if groups not in self._counts:
            rng = self._generator(0, groups)
            blocks = (_draw_counts(rng, rows, groups) for rows in _blocks(self.resamples, groups))
            if self.resamples * groups > _CELLS:
                return blocks
            self._counts[groups] = list(blocks)
        return iter(self._counts[groups])


def _draw_counts(rng: np.random.Generator, rows: int, groups: int) -> Array:
    picks = rng.integers(groups, size=(rows, groups)) + np.arange(rows)[:, None] * groups
    return np.bincount(picks.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)


def _blocks(rows: int, columns: int) -> Iterator[int]:
    """Split `rows` so that a block of them holds at most `_CELLS` numbers."""
    step = max(1, _CELLS // columns)
    for start in range(0, rows, step):
        yield min(step, rows - start)
