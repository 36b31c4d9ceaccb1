"""LLM-Blender: pairs to learn from, and the answer that wins all comparisons."""

from __future__ import annotations

from polm_bench.decoding.blender import best, compared
from polm_bench.stages.blend import pairs

CHAT = [{"role": "user", "content": "Sort: 3 1"}]


def test_the_closer_answer_is_named_in_both_orders():
    found = set(pairs(["1 3", "3 1", "x"], "1 3"))
    assert {("1 3", "3 1", "1"), ("3 1", "1 3", "2"), ("x", "1 3", "2")} <= found
    assert len(found) == 6


def test_equal_answers_and_equally_wrong_ones_say_nothing():
    assert list(pairs(["1 3", "1 3"], "1 3")) == []
    assert {said for one, two, said in pairs(["1 3", "x", "y"], "1 3") if "1 3" not in (one, two)} == set()


def test_the_answer_with_the_largest_sum_of_margins_is_taken():
    order = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    # 1 beats both in both orders; 0 and 2 are as good as each other
    assert best(order, [-2.0, 0.0, 2.0, 2.0, 0.0, -2.0], 3) == 1
    assert best(order, [0.0] * 6, 3) == 0


def test_a_ranker_that_only_likes_the_first_place_decides_nothing():
    order = [(0, 1), (1, 0)]
    assert best(order, [5.0, 5.0], 2) == 0
    assert best(order, [5.0, 5.1], 2) == 1


def test_a_comparison_shows_the_question_and_both_answers():
    (message,) = compared("Q: {prompt}\n1: {first}\n2: {second}", CHAT, " 1 3 ", "3 1")
    assert message == {"role": "user", "content": "Q: Sort: 3 1\n1: 1 3\n2: 3 1"}
