"""Divergence from the start: estimators against a closed form, and what goes beside them."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch

from polm_bench.data import Nano
from polm_bench.graph import Stage
from polm_bench.rewards import Lexicon
from polm_bench.rewards.judge import RewardJudge
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.drift import Drift, repetition, sequence_kl

POLICY, START = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
ENDS = 2  # the token after which an answer is over


def answers():
    """All answers of at most two tokens: chance, tokens."""
    for first, second in itertools.product(range(3), repeat=2):
        if first == ENDS:
            if second == 0:
                yield POLICY[first].item(), [first]
        else:
            yield (POLICY[first] * POLICY[second]).item(), [first, second]


@pytest.mark.parametrize("name", ["kl_k1", "kl_k3"])
def test_estimates_have_the_true_divergence_of_whole_answers_as_their_mean(name):
    per_token = (POLICY * (POLICY / START).log()).sum().item()
    true = per_token * (1 + (1 - POLICY[ENDS].item()))  # a second token comes unless the first one ends the answer
    mean = 0.0
    for chance, tokens in answers():
        ids, mask = torch.tensor([tokens + [0] * (2 - len(tokens))]), torch.arange(2) < len(tokens)
        mean += chance * sequence_kl(POLICY.log()[ids], START.log()[ids], mask[None])[name].item()
    assert sum(chance for chance, _ in answers()) == pytest.approx(1)
    assert mean == pytest.approx(true, rel=1e-5)


def test_an_answer_worked_by_hand():
    found = sequence_kl(
        torch.tensor([[math.log(0.5), math.log(0.2)]]),
        torch.tensor([[math.log(0.25), math.log(0.4)]]),
        torch.tensor([[True, True]]),
    )
    assert found["kl_k1"].item() == pytest.approx(0.0, abs=1e-6)  # log 2 - log 2
    assert found["kl_k3"].item() == pytest.approx((0.5 - 1 + math.log(2)) + (2 - 1 - math.log(2)), rel=1e-5)


def test_padding_does_not_count():
    found = sequence_kl(torch.tensor([[-1.0, -9.0]]), torch.tensor([[-2.0, 0.0]]), torch.tensor([[True, False]]))
    assert found["kl_k1"].item() == 1.0


def test_repetition_is_the_share_of_word_pairs_that_came_before():
    assert repetition("it was good it was good") == pytest.approx(2 / 5)
    assert repetition("It was good") == 0.0
    assert repetition("good") == repetition("") == 0.0


@pytest.mark.slow
def test_a_model_has_not_moved_from_itself_and_wins_half(toy_model, tmp_path):
    model, data = Stage(), Nano("nano")
    job = Job(tmp_path, tmp_path, {model.key: toy_model}, Launch("inline"), "cpu")
    judge = RewardJudge(Lexicon())
    drift = Drift(model, model, data.role("prompts"), Lexicon(), 4, 2, 8, 0, judge, data.role("preference"))
    drift.run(job)
    found = {score["metric"]: score for score in json.loads((tmp_path / "scores.json").read_text())}
    assert found["kl_k1"]["value"] == found["kl_k3"]["value"] == 0.0
    assert found["win_rate"]["value"] == found["win_rate_true"]["value"] == 0.5
    assert job.ledger.notes["judge_agreement"] == 1.0
    assert found["reward"]["n"] == 4
    assert 0 < found["tokens"]["value"] <= 8
