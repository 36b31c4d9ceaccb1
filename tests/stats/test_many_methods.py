"""Corrections, ranks, equivalence, figures over tasks, and the split of variance: by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polm_bench.stats import (
    Bootstrap,
    Components,
    benjamini_hochberg,
    clusters_needed,
    components,
    corrected_pairs,
    equivalence,
    iqm,
    mean_interval,
    mean_intervals,
    over_runs,
    pair_p_values,
    paired_difference,
    power,
    probability_of_improvement,
    rank_intervals,
    seed_difference,
    seeds_needed,
    visible_effect,
)

approx = pytest.approx


@pytest.fixture
def bootstrap():
    return Bootstrap(np.random.default_rng(0))


def test_benjamini_hochberg_follows_the_worked_example():
    # 4/4 x 0.04, 4/3 x 0.03 = 0.04, 4/2 x 0.01 = 0.02, 4/1 x 0.005 = 0.02
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.9, 0.8]) == approx([0.9, 0.9])
    assert benjamini_hochberg([]) == []


def test_benjamini_hochberg_is_scipys():
    from scipy.stats import false_discovery_control

    p = np.random.default_rng(1).random(40) ** 3
    assert benjamini_hochberg(list(p)) == approx(list(false_discovery_control(p)))


def test_a_rank_interval_is_what_the_pairs_leave_open():
    certain, open_ = 0.001, 0.9
    p = [[1, open_, certain], [open_, 1, open_], [certain, open_, 1]]
    assert rank_intervals([0.9, 0.8, 0.7], p) == [(1, 2), (1, 3), (2, 3)]
    assert rank_intervals([0.1, 0.2], [[1, certain], [certain, 1]]) == [(2, 2), (1, 1)]


def test_pairs_are_corrected_once_each():
    raw = np.array([[1, 0.01, 0.04], [0.01, 1, 0.03], [0.04, 0.03, 1]])
    assert corrected_pairs(raw) == approx(np.array([[1, 0.03, 0.06], [0.03, 1, 0.06], [0.06, 0.06, 1]]))


def test_many_methods_at_once_get_what_each_gets_alone(bootstrap):
    rng = np.random.default_rng(2)
    cube, clusters, weights = rng.normal(size=(4, 3, 60)), np.arange(60) // 2, rng.integers(1, 9, 60)
    given = {"clusters": clusters, "weights": weights}
    for one, matrix in zip(mean_intervals(cube, bootstrap, **given), cube, strict=True):
        assert one == approx(mean_interval(matrix, bootstrap, **given))


@pytest.mark.parametrize("kind", ["seeds", "sign-flip", "mcnemar"])
def test_all_pairs_at_once_get_the_p_value_that_each_pair_gets_alone(bootstrap, kind):
    rng = np.random.default_rng(3)
    cube = rng.normal(size=(4, 3 if kind == "seeds" else 1, 50)) + np.arange(4)[:, None, None] * 0.2
    if kind == "mcnemar":
        cube = (cube > 0).astype(float)
    given = {"clusters": np.arange(50) // 2} if kind == "sign-flip" else {}
    table = pair_p_values(cube, bootstrap, **given)
    for i in range(4):
        for j in range(i):
            alone = paired_difference(cube[i], cube[j], bootstrap, **given)
            assert alone.test == kind
            assert table[i, j] == table[j, i] == approx(alone.p, rel=1e-9)


def test_figures_of_seeds_alone_follow_students_t():
    from scipy.stats import ttest_1samp

    gaps = [0.1, 0.3, 0.2, 0.25]
    found, known = seed_difference(gaps), ttest_1samp(gaps, 0)
    low, high = known.confidence_interval()
    assert (found.mean, found.low, found.high, found.p) == approx((np.mean(gaps), low, high, known.pvalue))
    assert seed_difference([0.1]) is None


def test_equivalence_needs_the_90_percent_interval_inside_the_margin():
    assert equivalence(0.0, 0.01, margin=0.02).verdict == "same"  # 1.64 x 0.01 < 0.02
    assert equivalence(0.01, 0.01, margin=0.02).verdict == "cannot tell"
    assert equivalence(0.05, 0.01, margin=0.02).verdict == "different"
    assert equivalence(0.010, 0.001, margin=0.02).verdict == "same"  # seen, and too small to matter
    assert equivalence(0.0, 0.01, margin=0.0).verdict == "cannot tell"
    assert equivalence(0.0, 0.0, margin=0.01).verdict == "same"
    assert equivalence(0.5, 0.0, margin=0.01).verdict == "different"


def test_equivalence_takes_the_larger_of_two_one_sided_p_values():
    from scipy.stats import t

    found = equivalence(0.3, 0.2, margin=1.0, freedom=7)
    assert found.p_same == approx(t.sf((1.0 - 0.3) / 0.2, 7))
    assert found.p_different == approx(2 * t.sf(0.3 / 0.2, 7))


def test_the_interquartile_mean_drops_a_quarter_at_either_end():
    from scipy.stats import trim_mean

    assert iqm([[0.0, 1.0], [2.0, 100.0]]) == 1.5  # of 0 1 2 100 the middle two
    scores = np.random.default_rng(4).random((5, 7))
    assert iqm(scores) == approx(trim_mean(scores, 0.25, axis=None))


def test_the_probability_of_improvement_is_mann_whitneys_over_the_pairs():
    from scipy.stats import mannwhitneyu

    first, second = np.array([[1.0, 5], [2, 5], [3, 5]]), np.array([[2.0, 5], [0, 9]])
    # task 1: 1>0, 2=2, 2>0, 3>2, 3>0 of six: 4.5/6; task 2: 5=5 three times of six, 5<9 three times: 1.5/6
    assert probability_of_improvement(first, second) == approx((4.5 / 6 + 1.5 / 6) / 2)
    u = [mannwhitneyu(first[:, task], second[:, task]).statistic / 6 for task in (0, 1)]
    assert probability_of_improvement(first, second) == approx(np.mean(u))


def test_an_interval_over_runs_covers_what_the_runs_span():
    rng = np.random.default_rng(5)
    scores = rng.normal(0.5, 0.1, (10, 6))
    found = over_runs(iqm, scores, rng=rng)
    assert found.low < found.value < found.high
    assert found.high - found.low == approx(4 * 0.1 / math.sqrt(60), rel=0.4)
    certain = over_runs(probability_of_improvement, scores + 9, scores, rng=rng)
    assert certain == (1.0, 1.0, 1.0)
    assert over_runs(iqm, scores[:1], rng=rng) == (iqm(scores[:1]), None, None)  # one run tells nothing of others
    alone = over_runs(probability_of_improvement, scores, scores[:1], rng=rng)
    assert alone.low < alone.value < alone.high


def test_variance_is_split_by_the_two_way_layout():
    seeds, items = np.array([[-1.0], [0.0], [1.0]]), np.array([0.0, 2, 4, 6])
    found = components(seeds + items)  # purely additive: nothing is left
    assert (found.seed, found.item, found.rest) == approx((1.0, items.var(ddof=1), 0.0))
    rng = np.random.default_rng(6)
    big = 0.5 * rng.normal(size=(60, 1)) + 2 * rng.normal(size=200) + rng.normal(size=(60, 200))
    assert components(big) == approx((0.25, 4.0, 1.0), rel=0.3)


def test_the_split_says_the_error_that_the_interval_has(bootstrap):
    rng = np.random.default_rng(7)
    scores = 0.3 * rng.normal(size=(5, 1)) + rng.normal(size=100) + rng.normal(size=(5, 100))
    known = mean_interval(scores, bootstrap)
    error = components(scores).error(5, 100)
    assert error == approx(math.sqrt(known.seed_variance + known.item_variance), rel=0.02)


def test_copies_of_an_item_in_its_cluster_need_no_more_clusters():
    rng = np.random.default_rng(8)
    scores = 0.3 * rng.normal(size=(4, 1)) + rng.normal(size=50) + rng.normal(size=(4, 50))
    copied = components(np.repeat(scores, 3, axis=1), clusters=np.repeat(np.arange(50), 3))
    assert copied == approx(components(scores))


def test_power_without_seed_variance_is_that_of_the_z_test():
    found = Components(seed=0.0, item=1.0, rest=0.0)
    # (1.96 + 0.84)^2 = 7.85 items for an effect of one standard deviation, 785 for a tenth
    assert clusters_needed(0.1, found, seeds=100) == approx(787, abs=3)
    assert visible_effect(found, 100, 785) == approx(0.1, rel=0.01)
    assert power(0.0, found, 3, 100) == approx(0.05, abs=1e-4)


def test_power_is_that_of_the_noncentral_t():
    from scipy.special import nctdtr, stdtrit

    found = Components(seed=1.0, item=0.0, rest=0.0)  # the mean of five seeds against nothing: 4 degrees of freedom
    bound, away = stdtrit(4, 0.975), 1.5 * math.sqrt(5)
    known = 1 - nctdtr(4, away, bound) + nctdtr(4, away, -bound)
    assert power(1.5, found, seeds=5, clusters=100) == approx(known, abs=1e-3)


def test_what_seeds_differ_by_no_number_of_items_makes_visible():
    found = Components(seed=0.01, item=1.0, rest=0.0)
    assert clusters_needed(0.05, found, seeds=3) is None
    assert seeds_needed(0.05, found, clusters=1_000_000) == approx(
        33, abs=2
    )  # 7.85 x 0.01 / 0.0025 and Student's two more
    assert seeds_needed(0.05, found, clusters=100) is None
