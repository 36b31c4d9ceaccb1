"""Closed forms, limits and gradients of the preference objectives."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from polm_bench.graph import identity
from polm_bench.objectives import DPO, KTO, APOZeroUnpaired, PairLogps, SimPO, UnpairedLogps

KTO_EVEN = KTO(beta=0.5, desirable_weight=1.0, undesirable_weight=1.0)


def pair(chosen, rejected, chosen_len=1, rejected_len=1) -> PairLogps:
    """One pair."""
    numbers = ([float(chosen)], [float(rejected)], [chosen_len], [rejected_len])
    return PairLogps(*(torch.tensor(value, requires_grad=isinstance(value[0], float)) for value in numbers))


def unpaired(completion: list[float], kl: list[float], label: list[bool]) -> UnpairedLogps:
    logps = [torch.tensor(values, requires_grad=True) for values in (completion, kl)]
    return UnpairedLogps(*logps, torch.ones(len(completion)), torch.ones(len(kl)), torch.tensor(label))


# DPO


def test_dpo_of_a_policy_that_is_its_reference_is_log_2():
    same = pair(chosen=-8.0, rejected=-3.0)
    assert DPO(beta=0.1)(same, same).item() == pytest.approx(math.log(2))


def test_dpo_is_the_logistic_loss_of_the_difference_of_log_ratios():
    # Ratios are +3 and -1 nats, so the margin is 0.5 * 4 = 2.
    loss = DPO(beta=0.5)(pair(-5.0, -7.0), pair(-8.0, -6.0))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2.0)))


def test_dpo_does_not_depend_on_lengths():
    short, long = pair(-5.0, -7.0, 1, 1), pair(-5.0, -7.0, 10, 3)
    assert torch.equal(DPO(beta=0.5)(short, pair(-8.0, -6.0)), DPO(beta=0.5)(long, pair(-8.0, -6.0)))


def test_dpo_gives_log_2_as_beta_goes_to_0():
    assert DPO(beta=1e-9)(pair(-5.0, -70.0), pair(-80.0, -6.0)).item() == pytest.approx(math.log(2))


def test_dpo_stays_finite_and_linear_for_a_pair_that_is_far_off():
    assert DPO(beta=1.0)(pair(-5000.0, 0.0), pair(0.0, 0.0)).item() == pytest.approx(5000.0)


def test_dpo_raises_chosen_and_lowers_rejected_by_the_same_amount():
    policy = pair(-5.0, -7.0)
    DPO(beta=0.5)(policy, pair(-8.0, -6.0)).sum().backward()
    expected = 0.5 / (1 + math.exp(2.0))  # beta * sigmoid(-margin)
    assert policy.chosen.grad.item() == pytest.approx(-expected)
    assert policy.rejected.grad.item() == pytest.approx(expected)


def test_dpo_plots_rewards_relative_to_the_reference():
    found = DPO(beta=0.5).metrics(pair(-5.0, -7.0), pair(-8.0, -6.0))
    assert {name: value.tolist() for name, value in found.items()} == {
        "reward_chosen": [1.5],
        "reward_rejected": [-0.5],
        "reward_margin": [2.0],
        "reward_accuracy": [1.0],
    }
    assert not any(value.requires_grad for value in found.values())


def test_a_tie_is_not_counted_as_accurate():
    same = pair(-4.0, -4.0)
    assert DPO(beta=0.5).metrics(same, same)["reward_accuracy"].item() == 0.0


# SimPO


def test_simpo_of_an_equal_pair_costs_only_the_margin():
    equal = pair(chosen=-8.0, rejected=-4.0, chosen_len=4, rejected_len=2)  # both -2 nats per token
    assert SimPO(beta=2.5, gamma=1.0)(equal, None).item() == pytest.approx(math.log1p(math.e))


def test_simpo_compares_nats_per_token():
    # -1 against -3 nats per token, though the sums rank them the other way: beta * 2 - gamma = 3.
    loss = SimPO(beta=2.0, gamma=1.0)(pair(-8.0, -6.0, chosen_len=8, rejected_len=2), None)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-3.0)))


def test_simpo_without_margin_gives_log_2_as_beta_goes_to_0():
    assert SimPO(beta=1e-9, gamma=0.0)(pair(-5.0, -70.0), None).item() == pytest.approx(math.log(2))


def test_simpo_divides_the_gradient_by_the_length():
    policy = pair(-8.0, -4.0, chosen_len=4, rejected_len=2)
    SimPO(beta=2.0, gamma=0.0)(policy, None).sum().backward()
    assert policy.chosen.grad.item() == pytest.approx(-2.0 * 0.5 / 4)
    assert policy.rejected.grad.item() == pytest.approx(2.0 * 0.5 / 2)


def test_simpo_plots_rewards_per_token():
    found = SimPO(beta=2.0, gamma=1.0).metrics(pair(-8.0, -6.0, 8, 2), None)
    assert (found["reward_chosen"].item(), found["reward_rejected"].item()) == (-2.0, -6.0)
    assert found["reward_margin"].item() == 4.0


# KTO


def test_kto_of_a_policy_that_is_its_reference_is_half_the_weight():
    same = unpaired([-3.0, -4.0], [-9.0, -9.0], [True, False])
    loss = KTO(beta=0.5, desirable_weight=1.0, undesirable_weight=3.0)(same, same)
    assert loss.tolist() == pytest.approx([0.5, 1.5])


def test_kto_measures_from_the_mean_kl():
    # Ratios +4 and +4; KL (1 + 3) / 2 = 2. Both lie 2 nats above the reference point: beta * 2 = 1.
    policy = unpaired([-1.0, -1.0], [-4.0, -2.0], [True, False])
    reference = unpaired([-5.0, -5.0], [-5.0, -5.0], [True, False])
    sigmoid = 1 / (1 + math.exp(-1.0))
    assert KTO_EVEN(policy, reference).tolist() == pytest.approx([1 - sigmoid, sigmoid])
    found = KTO_EVEN.metrics(policy, reference)
    assert {name: value.tolist() for name, value in found.items()} == {
        "reward_desirable": [2.0],
        "reward_undesirable": [2.0],
        "kl": [2.0],
    }


def test_kto_clamps_the_mean_kl_at_0_and_not_its_terms():
    reference = unpaired([-5.0], [-5.0, -5.0], [True])
    clamped = unpaired([-5.0], [-8.0, -4.0], [True])  # mean -1
    kept = unpaired([-5.0], [-6.0, -2.0], [True])  # mean +1; clamping the terms would give 1.5
    assert KTO_EVEN.reference_point(clamped, reference).item() == 0.0
    assert KTO_EVEN.reference_point(kept, reference).item() == 1.0


def test_kto_raises_the_desirable_lowers_the_undesirable_and_leaves_the_kl_alone():
    policy = unpaired([-1.0, -1.0], [-4.0, -2.0], [True, False])
    KTO_EVEN(policy, unpaired([-5.0, -5.0], [-5.0, -5.0], [True, False])).sum().backward()
    sigmoid = 1 / (1 + math.exp(-1.0))
    slope = 0.5 * sigmoid * (1 - sigmoid)
    assert policy.completion.grad.tolist() == pytest.approx([-slope, slope])
    assert policy.kl.grad is None


def test_kto_gives_half_the_weight_as_beta_goes_to_0():
    tiny = KTO(beta=1e-9, desirable_weight=1.0, undesirable_weight=1.0)
    loss = tiny(unpaired([-1.0, -90.0], [-4.0], [True, False]), unpaired([-50.0, -5.0], [-5.0], [True, False]))
    assert loss.tolist() == pytest.approx([0.5, 0.5])


def test_kto_is_bounded_by_its_weights():
    objective = KTO(beta=1.0, desirable_weight=2.0, undesirable_weight=3.0)
    loss = objective(unpaired([-900.0, 0.0], [0.0], [True, False]), unpaired([0.0, -900.0], [0.0], [True, False]))
    assert loss.tolist() == pytest.approx([2.0, 3.0])


# APO-zero on single completions

APO = APOZeroUnpaired(beta=0.5, desirable_weight=1.0, undesirable_weight=3.0)


def test_apo_zero_unpaired_judges_each_completion_from_zero_whatever_the_mismatched_ones_do():
    # Ratios +2 and -4: rewards 1 and -2.
    policy, reference = unpaired([-3.0, -9.0], [-4.0], [True, False]), unpaired([-5.0, -5.0], [-900.0], [True, False])
    loss = APO(policy, reference)
    assert loss.tolist() == pytest.approx([1 - 1 / (1 + math.exp(-1.0)), 3 / (1 + math.exp(2.0))])
    loss.sum().backward()
    assert policy.completion.grad[0] < 0 < policy.completion.grad[1]
    found = APO.metrics(policy, reference)
    assert {name: value.tolist() for name, value in found.items()} == {
        "reward_desirable": [1.0],
        "reward_undesirable": [-2.0],
    }


def test_apo_zero_unpaired_of_a_policy_that_is_its_reference_is_half_the_weight_and_kto_without_divergence():
    same = unpaired([-3.0, -4.0], [-9.0], [True, False])
    assert APO(same, same).tolist() == pytest.approx([0.5, 1.5])
    moved = unpaired([-1.0, -6.0], [-9.0], [True, False])
    kto = KTO(beta=0.5, desirable_weight=1.0, undesirable_weight=3.0)
    assert APO(moved, same).tolist() == pytest.approx(kto(moved, same).tolist())


# All


@pytest.mark.parametrize(
    ("objective", "numbers"),
    [(DPO, {}), (SimPO, {"beta": 2.0}), (KTO, {"beta": 0.1, "desirable_weight": 1.0}), (DPO, {"beta": 0.0}),
     (DPO, {"beta": 0.1, "gamma": 1.0}), (SimPO, {"beta": 2.0, "gamma": -1.0}), (DPO, {"beta": float("inf")}),
     (KTO, {"beta": 0.1, "desirable_weight": -1.0, "undesirable_weight": 1.0})],
)  # fmt: skip
def test_a_missing_unknown_or_impossible_number_is_refused(objective, numbers):
    with pytest.raises(ValidationError):
        objective(**numbers)


def test_numbers_and_name_are_the_identity():
    assert identity(SimPO(beta=2, gamma=1)) == {"class": "SimPO", "beta": 2.0, "gamma": 1.0}
    assert DPO(beta=1) == DPO(beta=1.0)


def test_objectives_are_made_without_torch():
    code = "import sys; from polm_bench.objectives import DPO; DPO(beta=0.1); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
