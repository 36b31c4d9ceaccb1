"""Policy training: the budget's end, the ledger, resume, and that a reward is learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import BadBudget
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.advantages import GAE, GroupRelative
from polm_bench.objectives.ppo import Clipped, Critic
from polm_bench.rewards import Reward, Scorer
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.policy import TrainPolicy
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts


@dataclass(frozen=True, config=FORBID)
class Start(Stage):
    """A model that is already there."""


@dataclass(frozen=True, config=FORBID)
class Prompts(Rows):
    """Three prompts."""

    def load(self, split):
        return [{"prompt": [{"role": "user", "content": text}]} for text in ("one", "two words", "three more words")]


@dataclass(frozen=True, config=FORBID)
class Short(Reward):
    """Fewer characters are better: a reward that a random model can move."""

    def scorer(self, job: Any) -> Scorer:
        def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> list[float]:
            return [-len(answer) / 100 for answer in answers]

        return score


def stage(unit="steps", amount=4, group=4, steps=2, draws=1, reward=None, advantage=None, critic=None, lr=1e-3):
    return TrainPolicy(
        init=Start(),
        reward=reward or Short(),
        data=Prompts("prompts"),
        rollouts=Rollouts(group=group, steps=steps, epochs=1, temperature=1.0, penalty=0.01, draws=draws),
        advantage=advantage or GroupRelative(scale="group"),
        loss=Clipped(average="token", kl=0.0, entropy=0.0, low=0.2, high=0.2, ratio="token"),
        critic=critic,
        spend=Spend(unit, amount, 8, 32),
        optim=Optim(lr=lr, schedule="constant_with_warmup", warmup=0.0),
        seed=0,
    )


def run(stage, toy_model, folder, micro_batch=64, checkpoint_seconds=60.0):
    job = Job(
        folder / "out",
        folder / "scratch",
        {Start().key: toy_model},
        Launch("inline", micro_batch=micro_batch, checkpoint_seconds=checkpoint_seconds),
        "cpu",
    )
    job.out.mkdir(parents=True, exist_ok=True)
    job.scratch.mkdir(parents=True, exist_ok=True)
    stage.run(job)
    return job


def weights(job):
    from safetensors.torch import load_file

    return load_file(job.out / "model.safetensors")


def test_a_group_that_does_not_divide_the_batch_is_refused(toy_model, tmp_path):
    with pytest.raises(BadBudget, match="groups of 3"):
        run(stage(group=3), toy_model, tmp_path)


@pytest.mark.slow
def test_a_budget_in_steps_is_kept_and_everything_is_counted(toy_model, tmp_path):
    job = run(stage(amount=3), toy_model, tmp_path)
    ledger = job.ledger.to_dict()
    assert ledger["steps"] == 3
    assert 0 < ledger["tokens_generated"] <= 3 * 8 * 16
    assert ledger["tokens_trained"] > ledger["tokens_generated"]
    assert ledger["tokens_scored"] == 2 * ledger["tokens_trained"]  # log-probs at sampling, and the reference's
    assert ledger["flops"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("amount", "steps"), [(900, 1), (1390, 4)], ids=["batch by batch", "in rounds of four"])
def test_a_budget_in_tokens_counts_what_is_generated_and_stops_with_the_step_that_reaches_it(
    amount, steps, toy_model, tmp_path
):
    job = run(stage("tokens", amount, steps=steps), toy_model, tmp_path)
    amounts = job.ledger.amounts
    spent = amounts["tokens_trained"] + amounts["tokens_generated"]
    assert job.ledger.notes["steps"] >= steps
    assert amount <= spent < amount + 8 * (32 + 16)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["group", "critic", "head"])
def test_a_killed_training_goes_on_bit_for_bit(method, toy_model, tmp_path, monkeypatch):
    critic = None if method == "group" else Critic(weight=0.1, clip=0.2, own=method == "critic")
    advantage = None if critic is None else GAE(gamma=1.0, lam=0.95, whiten=True)
    made = stage(amount=4, advantage=advantage, critic=critic)
    whole = run(made, toy_model, tmp_path / "whole", checkpoint_seconds=1e-9)

    from polm_bench.trainers.experience import Gatherer

    gather = Gatherer.round

    def killed(self, number, place, batches):
        if number == 1:
            raise KeyboardInterrupt
        return gather(self, number, place, batches)

    monkeypatch.setattr(Gatherer, "round", killed)
    with pytest.raises(KeyboardInterrupt):
        run(made, toy_model, tmp_path / "cut", checkpoint_seconds=1e-9)
    monkeypatch.setattr(Gatherer, "round", gather)
    resumed = run(made, toy_model, tmp_path / "cut", checkpoint_seconds=1e-9)
    assert resumed.curve_points == whole.curve_points
    for name in ("tokens_trained", "tokens_generated", "tokens_scored", "flops"):
        assert resumed.ledger.amounts[name] == whole.ledger.amounts[name]
    after = weights(whole)
    assert all(after[name].equal(found) for name, found in weights(resumed).items())


@pytest.mark.slow
def test_the_split_into_micro_batches_changes_nothing(toy_model, tmp_path):
    import torch

    made = stage(amount=1, steps=1)
    one, many = (run(made, toy_model, tmp_path / str(size), micro_batch=size) for size in (64, 3))
    after = weights(one)
    # AdamW's first step is the sign of the gradient, so that a rounding error of a tiny gradient may show
    assert one.curve_points[0]["loss"] == pytest.approx(many.curve_points[0]["loss"], abs=1e-5)
    assert one.curve_points[0]["grad_norm"] == pytest.approx(many.curve_points[0]["grad_norm"], rel=1e-3)
    moved = [(after[name] - found).abs().mean() for name, found in weights(many).items()]
    assert torch.stack(moved).max() < 1e-4


@pytest.mark.slow
def test_the_reward_rises(toy_model, tmp_path):
    job = run(stage(amount=24, steps=2, lr=1e-2), toy_model, tmp_path)
    rewards = [point["reward"] for point in job.curve_points]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3


@pytest.mark.slow
def test_groups_without_a_difference_are_drawn_again_but_not_for_ever(toy_model, tmp_path):
    @dataclass(frozen=True, config=FORBID)
    class Same(Reward):
        def scorer(self, job: Any) -> Scorer:
            return lambda rows, answers: [1.0] * len(answers)

    job = run(stage(amount=2, draws=3, reward=Same()), toy_model, tmp_path)
    assert job.ledger.amounts.get("tokens_trained", 0) == 0
    assert 3 * 16 <= job.ledger.amounts["tokens_generated"] <= 3 * 16 * 16
