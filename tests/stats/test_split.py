"""Worlds whose variance is known: how much of it is found again, and where it is put."""

from __future__ import annotations

import numpy as np
import pytest

from polm_bench.stats import components, split

approx = pytest.approx
WORLDS = 300


def world(rng, seeds, decodings, items, *, seed=0.04, item=1.0, both=0.5, decoding=0.25):
    """Scores [S, D, N] whose parts have these variances."""
    whole = np.sqrt(seed) * rng.normal(size=(seeds, 1, 1)) + np.sqrt(item) * rng.normal(size=items)
    whole = whole + np.sqrt(both) * rng.normal(size=(seeds, 1, items))
    return whole + np.sqrt(decoding) * rng.normal(size=(seeds, decodings, items))


@pytest.mark.parametrize(
    ("seeds", "decodings", "expected"),
    [
        (5, 3, (0.04, 1.0, 0.5, 0.25)),
        (2, 2, (0.04, 1.0, 0.5, 0.25)),
        (5, 1, (0.04, 1.0, 0.75, None)),  # chance in decoding is part of what is left
        (1, 4, (None, 1.5, None, 0.25)),  # and what seed and item do together part of the items
        (1, 1, (None, 1.75, None, None)),
    ],
)
def test_the_parts_that_a_world_is_made_of_are_found_again(seeds, decodings, expected):
    rng = np.random.default_rng(3)
    found = np.array([split(world(rng, seeds, decodings, 150)) for _ in range(WORLDS)], dtype=float).mean(axis=0)
    errors = (0.1, 0.02, 0.02, 0.02)  # the seeds' is the largest: a world has few of them
    for value, truth, error in zip(found, expected, errors, strict=True):
        assert np.isnan(value) if truth is None else value == approx(truth, rel=error * (3 if seeds < 5 else 1))


def test_right_and_wrong_answers_at_random_are_all_decoding():
    rng = np.random.default_rng(4)
    found = np.mean([split((rng.random((3, 4, 200)) < 0.3).astype(float)) for _ in range(WORLDS)], axis=0)
    assert found == approx((0, 0, 0, 0.21), abs=0.01)  # 0.3 x 0.7


def test_a_model_that_answers_greedily_has_no_decoding():
    once = np.random.default_rng(5).normal(size=(3, 1, 50))
    found = split(np.repeat(once, 3, axis=1))
    assert found.decoding == approx(0, abs=1e-20)
    assert (found.seed, found.item, found.both) == approx(components(once[:, 0]))


def test_copies_of_an_item_in_its_cluster_change_no_part():
    scores = world(np.random.default_rng(6), 3, 2, 60)
    copied = split(np.repeat(scores, 4, axis=2), clusters=np.repeat(np.arange(60), 4))
    assert copied == approx(split(scores))
    assert split(scores, weights=np.full(60, 7.0)) == approx(split(scores))


def test_one_cluster_is_no_ground_for_a_split():
    with pytest.raises(ValueError, match="two clusters or more, not 1"):
        split(np.ones((2, 2, 3)), clusters=[0, 0, 0])
