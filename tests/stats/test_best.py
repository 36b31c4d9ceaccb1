from __future__ import annotations

import numpy as np
import pytest

from polm_bench.stats import Bootstrap, chance_above, chance_of_best


def draws():
    return Bootstrap(np.random.default_rng(0))


def test_the_chances_of_all_methods_sum_to_one():
    scores = np.random.default_rng(1).normal(0, 1, (4, 3, 50))
    assert sum(chance_of_best(list(scores), draws())) == pytest.approx(1)


def test_a_method_that_is_better_on_every_item_is_best_in_every_world():
    below = np.random.default_rng(2).normal(0, 1, (3, 50))
    assert chance_of_best([below, below + 0.1], draws()) == [0.0, 1.0]


def test_equal_methods_share_the_chance():
    same = np.random.default_rng(3).normal(0, 1, (2, 40))
    assert chance_of_best([same, same, same - 5], draws()) == pytest.approx([0.5, 0.5, 0.0])


def test_a_model_that_no_seed_changes_stands_beside_those_of_several_seeds():
    rng = np.random.default_rng(4)
    found = chance_of_best([rng.normal(0, 1, 80), rng.normal(2, 1, (3, 80))], draws())
    assert found[1] > 0.99


@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.1), (5, 0.1)])
def test_of_two_equal_methods_one_seems_surely_best_as_rarely_as_it_should(seeds, luck):
    """A chance above 0.975 comes in about 5 % of the worlds in which nothing differs but the luck of the seeds."""
    rng, sure, same = np.random.default_rng(5), 0, draws()
    for _ in range(300):
        items = rng.normal(0, 1, 60)
        methods = [items + rng.normal(0, 0.5, (seeds, 60)) + rng.normal(0, luck, (seeds, 1)) for _ in range(2)]
        sure += max(chance_of_best(methods, same)) > 0.975
    assert 0.02 < sure / 300 < 0.085


def test_a_chance_above_zero_is_half_where_the_estimate_is_zero():
    assert chance_above(0.0, 1.0, 10) == pytest.approx(0.5)
    assert chance_above(2.228, 1.0, 10) == pytest.approx(0.975, abs=1e-4)  # Student's 97.5 % point
    assert chance_above(-2.228, 1.0, 10) == pytest.approx(0.025, abs=1e-4)
    assert (chance_above(0.1, 0.0, 1), chance_above(-0.1, 0.0, 1)) == (1.0, 0.0)
