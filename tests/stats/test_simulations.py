"""Simulated worlds whose truth is known: how often intervals cover it, and how often tests raise a false alarm."""

from __future__ import annotations

import numpy as np
import pytest

from polm_bench.stats import (
    Bootstrap,
    corrected_pairs,
    equivalence,
    mean_intervals,
    pair_p_values,
    paired_difference,
    rank_intervals,
)

pytestmark = pytest.mark.slow

TRIALS = 3000  # a rate near 5 % is then off by 0.4 % (one standard error)


def few_items(rng):
    return rng.normal(size=(TRIALS, 1, 15)), {}, 0.0


def right_or_wrong(rng):
    return (rng.random((TRIALS, 1, 200)) < 0.3).astype(float), {}, 0.3


def skewed_items(rng):
    return rng.exponential(size=(TRIALS, 1, 150)), {}, 1.0


def items_in_passages(rng):
    clusters = np.repeat(np.arange(40), 5)
    shared = rng.normal(size=(TRIALS, 1, 40))[:, :, clusters]
    return shared + rng.normal(size=(TRIALS, 1, 200)), {"clusters": clusters}, 0.0


def passages_of_many_lengths(rng):
    clusters = np.repeat(np.arange(60), np.arange(60) % 5 + 1)
    size = 20 + 3.0 * (np.arange(len(clusters)) % 50)
    shared = rng.normal(size=(TRIALS, 1, 60))[:, :, clusters]
    scores = shared + rng.normal(size=(TRIALS, 1, len(clusters))) * 30 / size
    return scores, {"clusters": clusters, "weights": size}, 0.0


def three_seeds(rng):
    own = rng.normal(0, 0.05, (TRIALS, 3, 1)) + rng.normal(0, 0.4, (TRIALS, 3, 200))
    return own + rng.normal(0, 0.3, (TRIALS, 1, 200)), {}, 0.0


def three_seeds_that_differ(rng):
    own = rng.normal(0, 0.3, (TRIALS, 3, 1)) + rng.normal(0, 0.4, (TRIALS, 3, 200))
    return own + rng.normal(0, 0.3, (TRIALS, 1, 200)), {}, 0.0


def five_seeds_right_or_wrong(rng):
    skill = rng.normal(0, 0.2, (TRIALS, 5, 1)) + rng.normal(0, 1, (TRIALS, 1, 300)) + rng.normal(0, 1, (TRIALS, 5, 300))
    return (skill > 0).astype(float), {}, 0.5


WORLDS = [
    few_items,
    right_or_wrong,
    skewed_items,
    items_in_passages,
    passages_of_many_lengths,
    three_seeds,
    three_seeds_that_differ,
    five_seeds_right_or_wrong,
]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.__name__)
def test_95_percent_intervals_cover_the_truth_in_93_to_97_percent(world):
    scores, given, truth = world(np.random.default_rng(11))
    found = mean_intervals(scores, Bootstrap(np.random.default_rng(12), resamples=1000), **given)
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.93 <= covered <= 0.97


def alike_in_size(rng):
    return rng.normal(size=60), rng.normal(size=60), {}


def alike_in_passages(rng):
    clusters = np.repeat(np.arange(40), 3)
    return rng.normal(size=40)[clusters] + rng.normal(size=120), rng.normal(size=120), {"clusters": clusters}


def alike_over_three_seeds(rng):
    return rng.normal(0, 0.5, (3, 1)) + rng.normal(0, 1, (3, 100)), np.zeros((1, 100)), {}


def alike_over_five_seeds(rng):
    base = rng.normal(size=100)
    return rng.normal(0, 0.3, (5, 1)) + base + rng.normal(0, 1, (5, 100)), base, {}


@pytest.mark.parametrize(
    "world",
    [alike_in_size, alike_in_passages, alike_over_three_seeds, alike_over_five_seeds],
    ids=lambda world: world.__name__,
)
def test_equal_methods_raise_an_alarm_in_4_to_6_percent(world):
    rng = np.random.default_rng(13)
    bootstrap = Bootstrap(np.random.default_rng(14), resamples=20, flips=999)
    pairs = (world(rng) for _ in range(TRIALS))
    alarms = np.mean([paired_difference(first, second, bootstrap, **given).p < 0.05 for first, second, given in pairs])
    assert 0.04 <= alarms <= 0.06


def test_mcnemars_exact_test_raises_at_most_5_percent():
    """It is known to be cautious, the more so the fewer items change sides."""
    rng, bootstrap = np.random.default_rng(15), Bootstrap(np.random.default_rng(16), resamples=20)
    alarms = 0
    for _ in range(TRIALS):
        skill = rng.random(400)
        first, second = ((rng.random(400) < skill).astype(float) for _ in range(2))
        alarms += paired_difference(first, second, bootstrap).p < 0.05
    assert 0.02 <= alarms / TRIALS <= 0.05


def test_methods_as_far_apart_as_the_margin_are_called_the_same_in_at_most_5_percent():
    """Two one-sided tests at 5 % each; equal methods are called the same in most worlds."""
    rng, margin = np.random.default_rng(21), 0.1
    bootstrap = Bootstrap(np.random.default_rng(22), resamples=20)
    same = {0.0: 0, margin: 0}
    for truth in same:
        for _ in range(TRIALS):
            gaps = truth + rng.normal(0, 0.05, (5, 1)) + rng.normal(0, 0.3, (5, 100))
            found = paired_difference(gaps, np.zeros(100), bootstrap)
            same[truth] += equivalence(found.mean, found.error, margin, found.freedom).verdict == "same"
    assert 0.03 <= same[margin] / TRIALS <= 0.06
    assert same[0.0] / TRIALS > 0.8


def test_holms_correction_keeps_the_rate_of_any_false_alarm_among_all_pairs():
    """Six methods, fifteen pairs; two of the methods are better than the rest."""
    rng, bootstrap, trials = np.random.default_rng(17), Bootstrap(np.random.default_rng(18)), 1500
    truth = np.array([0.0, 0, 0, 0, 1, 1])
    alike = truth[:, None] == truth[None, :]
    plain, corrected, ranks_hold = 0, 0, 0
    for _ in range(trials):
        scores = (
            truth[:, None, None] + rng.normal(0, 0.2, (6, 5, 1)) + rng.normal(0, 1, (6, 5, 80)) + rng.normal(size=80)
        )
        p = pair_p_values(scores, bootstrap)
        table = corrected_pairs(p)
        plain += bool((p < 0.05)[alike].any())
        corrected += bool((table < 0.05)[alike].any())
        intervals = rank_intervals(list(scores.mean(axis=(1, 2))), table)
        # The two best may share ranks 1 and 2 in either order, the others 3 to 6.
        true = [(3, 6)] * 4 + [(1, 2)] * 2
        ranks_hold += all(low <= a and b <= high for (low, high), (a, b) in zip(intervals, true, strict=True))
    assert plain / trials > 0.15
    assert corrected / trials <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert ranks_hold / trials >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / trials)


def test_the_planners_power_is_what_its_world_has():
    from polm_bench.stats import Components, power

    found = Components(seed=0.01, item=0.5, rest=1.0)
    promised = power(0.25, found, seeds=5, clusters=120)
    rng, bootstrap, trials = np.random.default_rng(19), Bootstrap(np.random.default_rng(20), resamples=20), 1500
    seen = 0
    for _ in range(trials):
        gaps = 0.25 + rng.normal(0, 0.1, (5, 1)) + rng.normal(0, 0.5**0.5, 120) + rng.normal(0, 1, (5, 120))
        seen += paired_difference(gaps, np.zeros(120), bootstrap).p < 0.05
    assert 0.5 < promised < 0.95
    assert seen / trials == pytest.approx(promised, abs=0.04)
