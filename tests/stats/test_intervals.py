"""Closed forms, matrices one can check by hand, and simulations of coverage and of false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from polm_bench.stats import (
    Bootstrap,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    rank_groups,
    sign_flip,
)
from polm_bench.stats.student import student_quantile

approx = pytest.approx


@pytest.fixture
def bootstrap():
    return Bootstrap(np.random.default_rng(0))


def test_a_mean_is_the_mean_of_its_items_and_its_interval_the_normal_one_for_many(bootstrap):
    scores = np.tile([0.0, 0.0, 0.0, 1.0], 250)
    found = mean_interval(scores, bootstrap)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 1000)
    assert found.mean == 0.25
    assert (found.low, found.high) == approx((0.25 - half, 0.25 + half), abs=0.003)
    assert (found.items, found.clusters, found.seeds, found.seed_variance) == (1000, 1000, 1, 0.0)
    assert found.item_variance == approx(0.25 * 0.75 / 1000, rel=0.1)


def test_a_weighted_mean_counts_bytes_not_items(bootstrap):
    found = mean_interval([1.0, 3.0], bootstrap, weights=[300, 100])
    assert found.mean == (1 * 300 + 3 * 100) / 400


def test_copies_of_an_item_add_nothing_where_they_share_a_cluster(bootstrap):
    single = np.random.default_rng(1).normal(size=100)
    copied, clusters = np.repeat(single, 7), np.repeat(np.arange(100), 7)
    once, often = mean_interval(single, bootstrap), mean_interval(copied, bootstrap, clusters=clusters)
    assert (often.low, often.high) == approx((once.low, once.high))
    assert often.clusters == 100
    assert often.items == 700


def test_copies_of_a_seed_add_nothing(bootstrap):
    single = np.random.default_rng(1).normal(size=100)
    once, often = mean_interval(single, bootstrap), mean_interval(np.stack([single] * 5), bootstrap)
    assert (often.low, often.high) == approx((once.low, once.high))
    assert often.seed_variance == 0


def test_variance_is_split_into_seeds_and_items(bootstrap):
    items = np.random.default_rng(2).normal(size=400)
    matrix = np.array([[-1.0], [0.0], [1.0]]) + items
    found = mean_interval(matrix, bootstrap)
    assert found.seed_variance == approx(1 / 3)  # seeds -1, 0, 1 have variance 1
    assert found.item_variance == approx(items.var(ddof=1) / 400, rel=0.1)
    assert found.high - found.mean > 4.30 / math.sqrt(3)  # Student's quantile for two degrees of freedom, not 1.96


def test_scores_that_are_all_right_or_all_wrong_get_the_exact_binomial_bound(bootstrap):
    right, wrong = mean_interval(np.ones(100), bootstrap), mean_interval(np.zeros(100), bootstrap)
    assert (right.low, right.high) == approx((0.025**0.01, 1.0))  # p^100 = 0.025
    assert (wrong.low, wrong.high) == approx((0.0, 1 - 0.025**0.01))


def test_the_interval_of_a_proportion_stays_a_proportion(bootstrap):
    passages = [0, 0, 0, 0, 1, 1, 1, 1]
    right, wrong = np.array([1, 0, 0, 0, 1, 1, 1, 1.0]), np.zeros(8)
    found = mean_interval(right, bootstrap, clusters=passages)  # two passages say next to nothing
    assert (found.low, found.high) == (0.0, 1.0)
    assert paired_difference(right, wrong, bootstrap, clusters=passages).high == 1.0


def test_a_constant_score_that_is_no_proportion_has_no_spread(bootstrap):
    found = mean_interval([2.5, 2.5, 2.5], bootstrap)
    assert (found.low, found.mean, found.high) == (2.5, 2.5, 2.5)


def test_draws_depend_on_the_generator_and_the_number_of_clusters_alone():
    scores, other = np.arange(10.0), np.arange(33.0)
    first, second = Bootstrap(np.random.default_rng(5)), Bootstrap(np.random.default_rng(5))
    mean_interval(other, second)
    assert mean_interval(scores, first) == mean_interval(scores, second)
    assert mean_interval(scores, first) != mean_interval(scores, Bootstrap(np.random.default_rng(6)))


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    scores, clusters = np.random.default_rng(3).normal(size=90), np.arange(90) // 3
    whole = mean_interval(scores, Bootstrap(np.random.default_rng(5)), clusters=clusters)
    monkeypatch.setattr("polm_bench.stats.bootstrap._CELLS", 1000)
    assert mean_interval(scores, Bootstrap(np.random.default_rng(5)), clusters=clusters) == approx(whole)


def test_mcnemar_is_the_binomial_tail():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == 2 / 2**5
    assert mcnemar(1, 5) == approx(2 * (1 + 6) / 2**6)
    assert mcnemar(3, 3) == 1.0
    assert mcnemar(700, 800) == mcnemar(800, 700) == approx(0.0106, abs=2e-4)  # z = 2.556 with continuity correction


def test_sign_flips_of_few_clusters_are_all_tried(bootstrap):
    assert sign_flip([1.0, 1.0, 1.0], bootstrap) == 2 / 8  # only +++ and --- are as extreme
    assert sign_flip([3.0, 1.0, -1.0], bootstrap) == 6 / 8  # the sum is 3, and of 5 3 3 1 -1 -3 -3 -5 six are as far
    assert sign_flip([0.0, 0.0], bootstrap) == 1.0
    assert sign_flip([1.0, -1.0], bootstrap) == 1.0


def test_sign_flips_of_many_clusters_follow_the_normal_tail(bootstrap):
    gaps = np.tile([1.5, -0.5], 50) - 0.35
    z = gaps.sum() / math.sqrt((gaps**2).sum())
    assert sign_flip(gaps, bootstrap) == approx(math.erfc(z / math.sqrt(2)), abs=0.02)
    assert sign_flip(np.ones(200), bootstrap) == 1 / 10_000  # never zero


def test_a_paired_difference_takes_the_test_that_fits():
    bootstrap = Bootstrap(np.random.default_rng(0))
    base, better = np.array([0, 0, 0, 0, 0, 0, 1, 1.0]), np.array([1, 1, 1, 1, 1, 0, 1, 0.0])
    exact = paired_difference(better, base, bootstrap)
    assert (exact.mean, exact.test, exact.p) == (0.5, "mcnemar", mcnemar(5, 1))
    assert paired_difference(better, base, bootstrap, clusters=[0, 0, 1, 1, 2, 2, 3, 3]).test == "sign-flip"
    assert paired_difference(better, base, bootstrap, weights=np.arange(1, 9)).test == "sign-flip"
    assert paired_difference(better / 2, base, bootstrap).test == "sign-flip"
    assert paired_difference(np.stack([better, base]), base, bootstrap).test == "seeds"


def test_pairing_takes_out_what_two_methods_share(bootstrap):
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 10, 300)
    found = paired_difference(hard + 0.5 + rng.normal(0, 1, 300), hard, bootstrap)
    assert 0.3 < found.low < 0.5 < found.high < 0.7
    assert found.p < 0.001


def test_a_difference_is_the_negative_of_its_reverse(bootstrap):
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(3, 80)), rng.normal(size=(3, 80))
    there, back = paired_difference(first, second, bootstrap), paired_difference(second, first, bootstrap)
    assert (back.mean, back.p) == approx((-there.mean, there.p))


def test_no_difference_anywhere_has_p_one(bootstrap):
    same = np.random.default_rng(4).normal(size=(3, 50))
    found = paired_difference(same, same, bootstrap)
    assert (found.mean, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_follows_the_worked_example():
    # 4 x 0.005 = 0.02; 3 x 0.01 = 0.03; 2 x 0.03 = 0.06; 1 x 0.04 = 0.04, held up to 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_methods_that_cannot_be_told_apart_share_a_rank():
    certain, open_ = 0.001, 0.9
    p = [[1, open_, certain], [open_, 1, open_], [certain, open_, 1]]
    assert rank_groups([0.9, 0.8, 0.7], p) == [1, 1, 2]  # only the first beats the third
    assert rank_groups([0.1, 0.2], [[1, certain], [certain, 1]]) == [2, 1]
    assert rank_groups([0.1, 0.2], [[1, open_], [open_, 1]]) == [1, 1]


def test_students_quantile_is_the_same_on_both_sides_of_its_switch():
    from scipy.special import stdtrit

    for freedom in (30, 47.3, 499, 1e6):
        assert student_quantile(freedom, 0.975) == approx(stdtrit(freedom, 0.975), abs=1e-6)


def test_a_real_difference_is_found():
    rng, bootstrap = np.random.default_rng(15), Bootstrap(np.random.default_rng(16))
    base = (rng.random(500) < 0.3).astype(float)
    better = np.maximum(base, (rng.random(500) < 0.1).astype(float))
    assert paired_difference(better, base, bootstrap).p < 0.001
    assert paired_difference(np.stack([better] * 3), base, bootstrap).p < 0.001
