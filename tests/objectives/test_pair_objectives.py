"""Closed forms, limits and gradients of the pairwise objectives, on pairs that can be worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from polm_bench.objectives import (
    AOT,
    BCO,
    CPO,
    DNO,
    DPO,
    DPOP,
    EXO,
    IPO,
    KTO,
    LDDPO,
    NCA,
    NPO,
    ORPO,
    RDPO,
    SPPO,
    TDPO1,
    TDPO2,
    UNA,
    WPO,
    AlphaDPO,
    AlphaPO,
    AOTUnpaired,
    APODown,
    APOZero,
    ChosenLikelihood,
    ConservativeDPO,
    DiscoPOP,
    ForwardKLDPO,
    HingeDPO,
    JensenShannonDPO,
    Mixture,
    NormalizedDPO,
    PairLogps,
    PairwiseCringe,
    RobustDPO,
    SimPO,
    SLiC,
    Term,
    WholeBatch,
)

LOG2 = math.log(2)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def pairs(chosen, rejected, chosen_len=None, rejected_len=None, **more) -> PairLogps:
    """Pairs with gradient; lengths are 1 unless given."""
    chosen, rejected = (torch.tensor(side, dtype=torch.float64, requires_grad=True) for side in (chosen, rejected))
    ones = torch.ones(len(chosen), dtype=torch.int64)
    lengths = [ones if side is None else torch.tensor(side) for side in (chosen_len, rejected_len)]
    return PairLogps(chosen, rejected, *lengths, **more)


def whole(policy: PairLogps, reference: PairLogps) -> PairLogps:
    """The pairs as an optimiser batch of their own."""
    bare = PairLogps(policy.chosen.detach(), policy.rejected.detach(), policy.chosen_len, policy.rejected_len)
    return policy._replace(whole=WholeBatch(bare, reference, torch.arange(len(policy.chosen))))


# Log-ratios of chosen and rejected: +3 and -1 nats; completions of 2 and 4 tokens.
POLICY = pairs([-5.0], [-7.0], [2], [4])
REFERENCE = pairs([-8.0], [-6.0], [2], [4])
TOKENS = {"chosen_tokens": torch.tensor([[0.5, 0.1, 0.0]]), "rejected_tokens": torch.tensor([[1.0, 0.5, 0.5]])}

CLOSED = [
    (IPO(tau=0.25, per_token=False), (4 - 2) ** 2),
    (IPO(tau=0.25, per_token=True), (3 / 2 + 1 / 4 - 2) ** 2),
    (SLiC(delta=5.0, sft_weight=0.1), (5 + 5 - 7) + 0.1 * 5 / 2),
    (SLiC(delta=1.0, sft_weight=0.0), 0.0),
    (HingeDPO(beta=0.1), 1 - 0.4),
    (HingeDPO(beta=0.5), 0.0),
    (CPO(beta=0.5, sft_weight=2.0), -log_sigmoid(1.0) + 2.0 * 5 / 2),
    (ConservativeDPO(beta=0.5, flipped=0.1), -0.9 * log_sigmoid(2) - 0.1 * log_sigmoid(-2)),
    (RobustDPO(beta=0.5, flipped=0.1), (-0.9 * log_sigmoid(2) + 0.1 * log_sigmoid(-2)) / 0.8),
    (
        EXO(beta=0.5, smoothing=0.1),
        sigmoid(2) * (math.log(sigmoid(2)) - math.log(0.9)) + sigmoid(-2) * (math.log(sigmoid(-2)) - math.log(0.1)),
    ),
    (RDPO(beta=0.5, alpha=0.25), -log_sigmoid(2 + 0.25 * (2 - 4))),
    (NormalizedDPO(beta=2.0), -log_sigmoid(2 * (3 / 2 + 1 / 4))),
    (DPOP(beta=0.5, weight=10.0), -log_sigmoid(2.0)),
    (ChosenLikelihood(), 5 / 2),
    (
        Mixture((Term(DPOP(beta=0.5, weight=10.0), 0.8), Term(ChosenLikelihood(), 0.5))),
        -0.8 * log_sigmoid(2.0) + 0.5 * 5 / 2,
    ),
    (NPO(beta=0.5), -2 / 0.5 * log_sigmoid(0.5)),
    (NCA(beta=0.5), -log_sigmoid(1.5) - 0.5 * log_sigmoid(-1.5) - 0.5 * log_sigmoid(0.5)),
    (UNA(beta=0.5, distance="mse"), (1 - sigmoid(1.5)) ** 2 + sigmoid(-0.5) ** 2),
    (UNA(beta=0.5, distance="bce"), -log_sigmoid(1.5) - log_sigmoid(0.5)),
    (APOZero(beta=0.5), 1 - sigmoid(1.5) + sigmoid(-0.5)),
    (APODown(beta=0.5), sigmoid(1.5) + 1 - sigmoid(2.0)),
    (SPPO(eta=2.0), (3 - 1) ** 2 + (-1 + 1) ** 2),
    (ForwardKLDPO(beta=0.5), -log_sigmoid(0.5 * ((1 - math.exp(-3)) - (1 - math.exp(1))))),
    (JensenShannonDPO(beta=0.5), -log_sigmoid(0.5 * (log_sigmoid(3) - log_sigmoid(-1)))),
    (AlphaDPO(beta=0.5, alpha=0.5), -log_sigmoid(0.5 * ((1 - math.exp(-1.5)) - (1 - math.exp(0.5))) / 0.5)),
    (AlphaPO(beta=2.0, gamma=1.0, alpha=0.5), -log_sigmoid(2 * (math.exp(0.875) - math.exp(1.25)) / 0.5 - 1.0)),
    (DiscoPOP(beta=0.5, tau=1.0), (1 - sigmoid(2)) * -log_sigmoid(2) + sigmoid(2) * math.exp(-2)),
]


def name(case) -> str | None:
    return None if isinstance(case, float | int) else str(case)


@pytest.mark.parametrize(("objective", "expected"), CLOSED, ids=name)
def test_a_pair_worked_by_hand(objective, expected):
    reference = REFERENCE if objective.needs_reference else None
    assert objective(POLICY, reference).item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_mixture_reads_what_one_of_its_terms_reads():
    free = Mixture((Term(SimPO(beta=2.0, gamma=1.0), 1.0), Term(ChosenLikelihood(), 0.05)))
    assert (free.needs_reference, free.reads_batch, free.reads_margin) == (False, False, False)
    judged = Mixture((Term(ChosenLikelihood(), 1.0), Term(BCO(beta=0.1), 1.0)))
    assert (judged.needs_reference, judged.reads_batch) == (True, True)
    told = judged.metrics(whole(POLICY, REFERENCE), REFERENCE)
    assert told["loss_chosenlikelihood"].item() == pytest.approx(5 / 2)
    assert "reward_margin" in free.metrics(POLICY, None)


@pytest.mark.parametrize("loss", [WPO(beta=0.1), KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)], ids=name)
def test_a_mixture_takes_no_term_that_reads_more_than_log_probs_of_pairs(loss):
    with pytest.raises(ValueError, match="can't be one of several losses"):
        Mixture((Term(loss, 1.0),))


def test_orpo_compares_odds_of_the_mean_token():
    # Mean log-probs -2.5 and -1.75.
    odds = [p / (1 - p) for p in (math.exp(-2.5), math.exp(-1.75))]
    expected = 2.5 - 0.3 * log_sigmoid(math.log(odds[0] / odds[1]))
    assert ORPO(weight=0.3)(POLICY, None).item() == pytest.approx(expected)


def test_orpo_stays_finite_for_a_completion_that_is_nearly_certain_or_impossible():
    policy = pairs([-1e-9, -5000.0], [-5000.0, -1e-9])
    losses = ORPO(weight=1.0)(policy, None)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(policy.chosen.grad).all()
    assert torch.isfinite(policy.rejected.grad).all()


def test_dpop_charges_for_a_chosen_completion_that_became_less_likely():
    # Log-ratios -2 and -3: DPO sees a margin of 1, the penalty is 10 * 2.
    loss = DPOP(beta=0.5, weight=10.0)(pairs([-5.0], [-7.0]), pairs([-3.0], [-4.0]))
    assert loss.item() == pytest.approx(-log_sigmoid(0.5 * (1 - 20)))


def test_dpop_raises_the_chosen_where_dpo_would_let_it_fall():
    policy = pairs([-5.0], [-7.0])
    DPOP(beta=0.5, weight=10.0)(policy, pairs([-3.0], [-4.0])).sum().backward()
    assert -policy.chosen.grad.item() == pytest.approx(11 * policy.rejected.grad.item())


def test_npo_does_not_read_the_chosen_completion_and_slows_down():
    policy, further = pairs([-5.0], [-7.0]), pairs([-5.0], [-20.0])
    NPO(beta=0.5)(policy, REFERENCE).sum().backward()
    NPO(beta=0.5)(further, REFERENCE).sum().backward()
    assert policy.chosen.grad is None
    assert 0 < further.rejected.grad < policy.rejected.grad


def test_npo_becomes_gradient_ascent_as_beta_goes_to_0():
    policy = pairs([-5.0], [-7.0])
    NPO(beta=1e-6)(policy, REFERENCE).sum().backward()
    assert policy.rejected.grad.item() == pytest.approx(1.0, rel=1e-4)


def test_dno_asks_for_no_more_than_the_margin_says():
    policy = pairs([-5.0], [-7.0], margin=torch.tensor([2.0]))
    p = sigmoid(3.0)
    found = DNO(beta=0.5, scale=1.5)(policy, REFERENCE)
    assert found.item() == pytest.approx(-p * log_sigmoid(2) - (1 - p) * log_sigmoid(-2))
    reached = pairs([-2.0], [-7.0], margin=torch.tensor([2.0]))  # reward difference 3, as much as asked for
    DNO(beta=0.5, scale=1.5)(reached, pairs([-8.0], [-7.0])).sum().backward()
    assert reached.chosen.grad.item() == pytest.approx(0, abs=1e-7)


def test_bco_judges_from_the_mean_reward_of_the_batch():
    # Rewards 1.5 and -0.5: the threshold is 0.5, and no gradient flows through it.
    policy = whole(pairs([-5.0], [-7.0]), REFERENCE)
    loss = BCO(beta=0.5)(policy, REFERENCE)
    loss.sum().backward()
    assert loss.item() == pytest.approx(-2 * log_sigmoid(1.0))
    assert policy.chosen.grad.item() == pytest.approx(-0.5 * sigmoid(-1.0))


def test_tdpo_takes_the_difference_of_the_sequential_kls():
    # KLs 0.6 and 2.0 nats.
    policy = pairs([-5.0], [-7.0], **TOKENS)
    assert TDPO1(beta=0.5)(policy, REFERENCE).item() == pytest.approx(-log_sigmoid(2 - 0.5 * 1.4))
    assert TDPO2(beta=0.5, alpha=0.5)(policy, REFERENCE).item() == pytest.approx(-log_sigmoid(2 - 0.25 * 1.4))


def test_tdpo2_holds_back_the_rejected_kl_only():
    chosen, rejected = (TOKENS[side].clone().requires_grad_() for side in ("chosen_tokens", "rejected_tokens"))
    policy = pairs([-5.0], [-7.0], chosen_tokens=chosen, rejected_tokens=rejected)
    TDPO2(beta=0.5, alpha=0.5)(policy, REFERENCE).sum().backward()
    assert chosen.grad is None
    assert (rejected.grad > 0).all()


def test_tdpo_is_dpo_where_the_policy_is_its_reference():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert TDPO1(beta=0.5).token_values(logits, torch.arange(5), logits).tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_the_kl_of_a_token_is_that_from_the_reference_to_the_policy():
    theirs, ours = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    expected = 0.5 * math.log(2) - 0.25 * math.log(2)
    found = TDPO2(beta=0.5, alpha=0.5).token_values(ours, torch.tensor([0]), theirs)
    assert found.item() == pytest.approx(expected)


def test_ld_dpo_counts_what_is_beyond_the_shared_length_by_alpha():
    tokens = {"chosen_tokens": torch.tensor([[1.0, 2.0]]), "rejected_tokens": torch.tensor([[0.5, -1.0, 4.0]])}
    policy = pairs([0.0], [0.0], [2], [3], **tokens)
    found = LDDPO(beta=0.5, alpha=0.25)(policy, REFERENCE)
    assert found.item() == pytest.approx(-log_sigmoid(0.5 * (3 - (-0.5 + 0.25 * 4))))


def test_ld_dpo_reads_log_ratios_of_tokens():
    ours, theirs = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    assert LDDPO(beta=0.5, alpha=0.5).token_values(ours, torch.tensor([0]), theirs).item() == pytest.approx(LOG2)


def test_wpo_weighs_dpo_by_what_the_policy_would_say():
    objective = WPO(beta=0.5)
    # Probabilities 0.5, 0.25, 0.25: their squares sum to 0.375.
    values = objective.token_values(torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([0]), None)
    assert values.item() == pytest.approx(math.log(0.5 / 0.375))
    policy = pairs([-5.0], [-7.0], [2], [4], **TOKENS)
    loss = objective(policy, REFERENCE)
    loss.sum().backward()
    weight = math.exp(0.6 / 2 + 2.0 / 4)
    assert loss.item() == pytest.approx(-weight * log_sigmoid(2.0))
    assert policy.chosen.grad.item() == pytest.approx(-weight * 0.5 * sigmoid(-2.0))


def test_the_policys_own_certain_choice_has_weight_1():
    certain = torch.tensor([[50.0, 0.0, 0.0]])
    assert WPO(beta=0.5).token_values(certain, torch.tensor([0]), None).item() == pytest.approx(0.0, abs=1e-6)


CRINGE = PairwiseCringe(weight=0.5, candidates=2, threshold=0.0, temperature=2.0)


def test_cringe_contrasts_a_rejected_token_with_the_likeliest_others():
    logits = torch.tensor([[1.0, 3.0, 2.0, -4.0]])
    first = sigmoid(3 - 2)  # of the others 3 and 2, how often each is drawn
    expected = -first * log_sigmoid(3 - 1) - (1 - first) * log_sigmoid(2 - 1)
    assert CRINGE.token_values(logits, torch.tensor([0]), None).item() == pytest.approx(expected)


def test_cringe_is_gated_by_the_margin():
    tokens = {"chosen_tokens": torch.zeros(1, 2), "rejected_tokens": torch.tensor([[0.5, 1.5, 0.0, 0.0]])}
    policy = pairs([-5.0], [-7.0], [2], [4], **tokens)
    loss = CRINGE(policy, None)
    loss.sum().backward()
    gate = sigmoid(-2 / 2)
    assert loss.item() == pytest.approx(gate * (5 / 2 + 0.5 * 2 / 4))
    assert policy.chosen.grad.item() == pytest.approx(-gate / 2)  # none through the gate
    assert policy.rejected.grad is None


def test_aot_compares_sorted_margins():
    policy, reference = pairs([3.0, 1.0], [0.0, 0.0]), pairs([2.0, 0.5], [0.0, 0.0])
    # The policy's margins 1 and 3 against the reference's 0.5 and 2, whichever rows they are in.
    expected = [-log_sigmoid(0.5 * (3 - 2)), -log_sigmoid(0.5 * (1 - 0.5))]
    found = AOT(beta=0.5, smoothing=0.0)(whole(policy, reference), reference)
    assert found.tolist() == pytest.approx(expected)
    swapped = pairs([0.5, 2.0], [0.0, 0.0])
    assert AOT(beta=0.5, smoothing=0.0)(whole(policy, swapped), swapped).tolist() == pytest.approx(expected)


def test_aot_unpaired_does_not_care_which_completions_belong_together():
    zero = pairs([0.0] * 3, [0.0] * 3)
    objective = AOTUnpaired(beta=0.5, smoothing=0.1)
    one, other = pairs([1.0, 5.0, 3.0], [2.0, -1.0, 0.0]), pairs([1.0, 5.0, 3.0], [0.0, 2.0, -1.0])
    losses = [objective(whole(policy, zero), zero) for policy in (one, other)]
    # Sorted: 1, 3, 5 against -1, 0, 2.
    h = [0.5 * (1 + 1), 0.5 * 3, 0.5 * (5 - 2)]
    expected = sum(-0.9 * log_sigmoid(x) - 0.1 * log_sigmoid(-x) for x in h)
    for loss in losses:
        assert loss.sum().item() == pytest.approx(expected)
        loss.sum().backward()
    assert one.chosen.grad.tolist() == pytest.approx(other.chosen.grad.tolist())
    slope = [-0.5 * (0.9 * sigmoid(-x) - 0.1 * sigmoid(x)) for x in h]
    assert one.chosen.grad.tolist() == pytest.approx([slope[0], slope[2], slope[1]])


EVEN = [
    (IPO(tau=0.25, per_token=True), 4.0),
    (HingeDPO(beta=0.5), 1.0),
    (ConservativeDPO(beta=0.5, flipped=0.1), LOG2),
    (RobustDPO(beta=0.5, flipped=0.1), LOG2),
    (EXO(beta=0.5, smoothing=0.1), -0.5 * math.log(4 * 0.9 * 0.1)),
    (NormalizedDPO(beta=0.5), LOG2),
    (DPOP(beta=0.5, weight=5.0), LOG2),
    (NPO(beta=0.5), 4 * LOG2),
    (NCA(beta=0.5), 2 * LOG2),
    (UNA(beta=0.5, distance="mse"), 0.5),
    (APOZero(beta=0.5), 1.0),
    (APODown(beta=0.5), 1.0),
    (ForwardKLDPO(beta=0.5), LOG2),
    (JensenShannonDPO(beta=0.5), LOG2),
    (AlphaDPO(beta=0.5, alpha=0.5), LOG2),
    (DiscoPOP(beta=0.5, tau=0.05), 0.5 * LOG2 + 0.5),
]


@pytest.mark.parametrize(("objective", "expected"), EVEN, ids=name)
def test_a_policy_that_is_its_reference(objective, expected):
    same = pairs([-8.0], [-3.0], [4], [2])
    assert objective(same, same).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("objective", "expected"),
    [case for case in EVEN if hasattr(case[0], "beta") and not isinstance(case[0], NPO)],
    ids=name,
)
def test_a_beta_of_nothing_is_as_if_nothing_had_been_learnt(objective, expected):
    assert replace(objective, beta=1e-9)(POLICY, REFERENCE).item() == pytest.approx(expected)


def test_what_reads_more_than_two_log_probs_starts_even_too():
    same = pairs([-8.0, -2.0], [-3.0, -4.0])
    for objective, expected in (
        (AOT(beta=0.5, smoothing=0.1), LOG2),
        (AOTUnpaired(beta=0.5, smoothing=0.1), LOG2),
        (BCO(beta=0.5), 2 * LOG2),
    ):
        assert objective(whole(same, same), same).tolist() == pytest.approx([expected] * 2), objective
    unmoved = {"chosen_tokens": torch.zeros(1, 2), "rejected_tokens": torch.zeros(1, 3)}
    one = pairs([-8.0], [-3.0], [2], [3], margin=torch.tensor([0.7]), **unmoved)
    for objective in (
        TDPO1(beta=0.5),
        TDPO2(beta=0.5, alpha=0.5),
        WPO(beta=0.5),
        LDDPO(beta=0.5, alpha=0.25),
        DNO(beta=0.5, scale=1.0),
    ):
        assert objective(one, one).item() == pytest.approx(LOG2), objective


def test_ld_dpo_that_counts_every_token_is_dpo():
    tokens = {"chosen_tokens": torch.tensor([[1.0, 2.0]]), "rejected_tokens": torch.tensor([[0.5, -1.0, -0.5]])}
    policy = pairs([-5.0], [-7.0], [2], [3], **tokens)  # the ratios are those of the sequences
    found = LDDPO(beta=0.5, alpha=1.0)(policy, REFERENCE)
    assert found.item() == pytest.approx(DPO(beta=0.5)(policy, REFERENCE).item())


def test_losses_that_become_dpo_in_a_limit():
    expected = DPO(beta=0.5)(POLICY, REFERENCE).item()
    limits = [
        ConservativeDPO(beta=0.5, flipped=0.0),
        RobustDPO(beta=0.5, flipped=0.0),
        RDPO(beta=0.5, alpha=0.0),
        DPOP(beta=0.5, weight=0.0),
        AlphaDPO(beta=0.5, alpha=1e-9),
        DNO(beta=0.5, scale=1e9),
        TDPO2(beta=0.5, alpha=0.0),
    ]
    policy = pairs([-5.0], [-7.0], [2], [4], margin=torch.tensor([1.0]), **TOKENS)
    for objective in limits:
        assert objective(policy, REFERENCE).item() == pytest.approx(expected, rel=1e-5), objective


def test_alphapo_is_simpo_as_alpha_goes_to_0():
    found, expected = AlphaPO(beta=2.0, gamma=1.0, alpha=1e-7), SimPO(beta=2.0, gamma=1.0)
    assert found(POLICY, None).item() == pytest.approx(expected(POLICY, None).item(), rel=1e-5)


def test_alphapo_pulls_more_at_a_completion_the_less_likely_it_is():
    """Its reward's slope is p^-alpha: a chosen completion of -4 nats per token gains e^(alpha * 3) times as much as one of -1."""
    slopes = []
    for mean in (-1.0, -4.0):
        policy = pairs([mean], [mean])
        AlphaPO(beta=2.0, gamma=0.0, alpha=0.5)(policy, None).sum().backward()
        slopes.append(policy.chosen.grad.item())
    assert slopes[1] / slopes[0] == pytest.approx(math.exp(0.5 * 3))


def test_alpha_1_is_the_forward_kl():
    a, b = AlphaDPO(beta=0.5, alpha=1.0), ForwardKLDPO(beta=0.5)
    assert a(POLICY, REFERENCE).item() == pytest.approx(b(POLICY, REFERENCE).item())


def test_the_jensen_shannon_reward_of_a_chosen_completion_is_at_most_log_2():
    chosen, _ = JensenShannonDPO(beta=1.0).rewards(pairs([900.0], [0.0]), pairs([0.0], [0.0]))
    assert chosen.item() == pytest.approx(LOG2)


# Where a loss says that a pair is not yet apart, the chosen completion must gain and the rejected one lose.
APART = [
    objective
    for objective, _ in CLOSED
    if not isinstance(objective, NPO | APODown | DiscoPOP | DPOP | ChosenLikelihood) and objective != SLiC(delta=1.0, sft_weight=0.0)
] + [DPO(beta=0.5), SimPO(beta=2.0, gamma=1.0), ORPO(weight=0.3)]  # fmt: skip


@pytest.mark.parametrize("objective", APART, ids=name)
def test_the_chosen_completion_gains_and_the_rejected_one_loses(objective):
    policy, reference = pairs([-6.0], [-6.0], [3], [3]), pairs([-5.9], [-6.1], [3], [3])
    objective(policy, reference if objective.needs_reference else None).sum().backward()
    assert policy.chosen.grad.item() < 0
    assert policy.rejected.grad.item() > 0


def test_apo_down_lowers_both_and_the_rejected_one_more():
    policy = pairs([-6.0], [-6.0])
    APODown(beta=0.5)(policy, pairs([-7.0], [-5.0])).sum().backward()  # rewards 0.5 and -0.5
    assert policy.rejected.grad > 0
    assert APODown(beta=0.5)(pairs([0.0], [0.0]), pairs([0.0], [0.0])).item() == 1.0


def test_ipo_pulls_a_pair_back_that_is_too_far_apart():
    policy = pairs([0.0], [-50.0])
    IPO(tau=0.25, per_token=False)(policy, pairs([0.0], [0.0])).sum().backward()
    assert policy.chosen.grad.item() > 0


SHIFTS = [
    IPO(tau=0.25, per_token=False),
    HingeDPO(beta=0.1),
    ConservativeDPO(beta=0.1, flipped=0.1),
    EXO(beta=0.1, smoothing=0.1),
    RDPO(beta=0.1, alpha=0.1),
    DiscoPOP(beta=0.1, tau=0.5),
]


@pytest.mark.parametrize("objective", SHIFTS, ids=name)
def test_losses_of_the_difference_do_not_change_when_both_log_ratios_shift(objective):
    # What the partition function of the reward does (Rafailov et al. 2023, Section 4).
    shifted = pairs([-5.0 + 7.0], [-7.0 + 7.0], [2], [4])
    assert objective(shifted, REFERENCE).item() == pytest.approx(objective(POLICY, REFERENCE).item())


ABSOLUTE = [NCA(beta=0.1), UNA(beta=0.1, distance="bce"), APOZero(beta=0.1), SPPO(eta=2.0)]


@pytest.mark.parametrize("objective", ABSOLUTE, ids=name)
def test_losses_of_each_completion_do_change_then(objective):
    shifted = pairs([-5.0 + 7.0], [-7.0 + 7.0], [2], [4])
    assert objective(shifted, REFERENCE).item() != pytest.approx(objective(POLICY, REFERENCE).item())


def test_bco_does_not_change_when_all_rewards_of_a_batch_shift():
    shifted = pairs([-5.0 + 7.0], [-7.0 + 7.0])
    expected = BCO(beta=0.5)(whole(POLICY, REFERENCE), REFERENCE).item()
    assert BCO(beta=0.5)(whole(shifted, REFERENCE), REFERENCE).item() == pytest.approx(expected)


FAR = [objective for objective, _ in CLOSED if not isinstance(objective, IPO | SPPO | DiscoPOP)]


@pytest.mark.parametrize("objective", FAR, ids=name)
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_losses_and_gradients_stay_finite_far_off(objective, side):
    policy = pairs([side * 2000.0 - 2001.0], [-side * 2000.0 - 2001.0], [2], [4])
    loss = objective(policy, pairs([-2000.0], [-2000.0], [2], [4]) if objective.needs_reference else None)
    loss.sum().backward()
    for value in (loss, policy.chosen.grad, policy.rejected.grad):
        assert value is None or torch.isfinite(value).all()


@pytest.mark.parametrize(
    "objective",
    [BCO(beta=0.1), AOT(beta=0.1, smoothing=0.0), DNO(beta=0.1, scale=1.0), TDPO1(beta=0.1), WPO(beta=0.1), CRINGE,
     LDDPO(beta=0.1, alpha=0.5)],
    ids=name,
)  # fmt: skip
def test_an_objective_without_what_it_reads_says_so(objective):
    with pytest.raises(ValueError, match="reads"):
        objective(POLICY, REFERENCE)
