"""Several reward models as one, and what is asked of them: numbers worked by hand."""

from __future__ import annotations

import pytest

from polm_bench.graph import Stage
from polm_bench.rewards.learned import Ensemble
from polm_bench.stages.score_reward import Judged, rated_answers, rating_scores

SCORES = [[1.0, 4.0], [3.0, 4.0]]  # of two members, for two answers


@pytest.mark.parametrize(("how", "expected"), [("mean", [2.0, 4.0]), ("worst", [1.0, 4.0]), ("uncertain", [1.5, 4.0])])
def test_members_are_combined_as_the_paper_says(how, expected):
    assert Ensemble(Stage(), how, 0.5).combine(SCORES) == expected


def test_a_weight_of_nothing_is_the_mean():
    assert Ensemble(Stage(), "uncertain").combine(SCORES) == Ensemble(Stage(), "mean").combine(SCORES)


def values(scores):
    return {score["metric"]: score["value"] for score in scores}


def test_rewards_are_correlated_with_ratings_by_rank_and_doubt_with_the_raters_spread():
    judged = Judged(rewards=[0.0, 1.0, 10.0, 11.0], unsure=[0.4, 0.3, 0.2, 0.1])
    found = rating_scores(judged, [-3.0, 0.0, 1.0, 4.0], [0.1, 0.2, 0.3, 0.4])
    assert values(found) == pytest.approx({"rating_correlation": 1.0, "spread_correlation": -1.0})
    swapped = rating_scores(judged, [-3.0, 1.0, 0.0, 4.0], [None, 0.2, 0.3, 0.4])  # 1 - 6 * 2 / (4 * 15)
    assert values(swapped) == pytest.approx({"rating_correlation": 0.8})


def test_a_reward_that_says_the_same_of_everything_has_no_correlation():
    assert rating_scores(Judged([1.0, 1.0], [0.0, 0.0]), [1.0, 2.0], [0.1, 0.2]) == []


def test_rated_answers_come_from_single_ratings_or_from_rankings():
    single = {"prompt": [], "completion": "Fine.", "rating": 1.5, "spread": 0.5}
    ranked = {"prompt": [], "responses": ["Good.", "Bad."], "scores": [1.0, -1.0]}
    assert rated_answers([single]) == [(single, "Fine.", 1.5, 0.5)]
    assert rated_answers([ranked]) == [(ranked, "Good.", 1.0, None), (ranked, "Bad.", -1.0, None)]
