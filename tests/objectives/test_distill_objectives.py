"""Distillation objectives against numbers worked by hand, torch's KL, and trl's GKD."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from polm_bench.objectives.distill import GKD, KD, MiniLLM, SkewKL, TokenViews, mean_after

approx = pytest.approx


def views(student, teacher, ids=None, rows=None) -> TokenViews:
    student, teacher = torch.as_tensor(student, dtype=torch.float64), torch.as_tensor(teacher, dtype=torch.float64)
    ids = torch.zeros(len(student), dtype=torch.long) if ids is None else torch.as_tensor(ids)
    rows = torch.zeros(len(student), dtype=torch.long) if rows is None else torch.as_tensor(rows)
    return TokenViews(student, teacher, ids, rows)


def random_views(n=12, v=7, seed=0) -> TokenViews:
    drawn = torch.Generator().manual_seed(seed)
    return views(
        torch.randn(n, v, generator=drawn, dtype=torch.float64),
        torch.randn(n, v, generator=drawn, dtype=torch.float64),
        torch.randint(v, (n,), generator=drawn),
        torch.arange(n) // 4,
    )


def test_kd_by_hand():
    # teacher (3/4, 1/4) at T = 2 from logits (2 log 3, 0), student even: KL = 3/4 log(3/2) + 1/4 log(1/2), times 4, plus half of log 2
    loss = KD(temperature=2.0, hard=0.5)(views([[0.0, 0.0]], [[2 * math.log(3), 0.0]]))
    assert loss.item() == approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) + 0.5 * math.log(2))


def test_kd_is_torchs_kl_times_the_squared_temperature():
    given = random_views()
    expected = F.kl_div(
        (given.student / 3).log_softmax(-1), (given.teacher / 3).log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    torch.testing.assert_close(KD(temperature=3.0, hard=0.0)(given), 9 * expected)


def test_kd_of_a_student_like_its_teacher_is_the_hard_part_alone():
    given = random_views()
    alike = given._replace(teacher=given.student)
    torch.testing.assert_close(
        KD(temperature=2.0, hard=0.5)(alike), 0.5 * F.cross_entropy(given.student, given.ids, reduction="none")
    )


def test_the_soft_gradient_keeps_its_size_at_high_temperatures():
    given = random_views()
    sizes = []
    for temperature in (50.0, 100.0):
        student = given.student.clone().requires_grad_()
        KD(temperature=temperature, hard=0.0)(given._replace(student=student)).sum().backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == approx(sizes[1], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gkd_is_trls(beta):
    from trl.experimental.gkd import GKDTrainer

    given = random_views()
    loss = GKD(beta=beta, temperature=0.9)(given)
    theirs = GKDTrainer.generalized_jsd_loss(
        given.student[None], given.teacher[None], beta=beta, temperature=0.9, reduction="sum"
    )
    assert loss.sum().item() == approx(theirs.item(), rel=1e-5)


def test_gkd_by_hand_at_the_middle():
    # teacher (1, 0) nearly, student even: the mixture is (3/4, 1/4)
    loss = GKD(beta=0.5, temperature=1.0)(views([[0.0, 0.0]], [[60.0, 0.0]]))
    student = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert loss.item() == approx(0.5 * math.log(1 / 0.75) + 0.5 * student)


def test_skewed_kl_without_skew_is_kl_and_with_skew_stays_bounded():
    given = random_views()
    torch.testing.assert_close(SkewKL(alpha=0.0, reverse=False)(given), GKD(beta=0.0, temperature=1.0)(given))
    torch.testing.assert_close(SkewKL(alpha=0.0, reverse=True)(given), GKD(beta=1.0, temperature=1.0)(given))
    apart = views([[0.0, 90.0]], [[90.0, 0.0]])
    assert SkewKL(alpha=0.1, reverse=False)(apart).item() == approx(-math.log(0.1))  # KL is at most -log alpha


def test_mean_after_counts_the_later_tokens_of_its_own_sequence():
    values, rows = torch.tensor([1.0, 2.0, 4.0, 3.0, 5.0]), torch.tensor([0, 0, 0, 1, 1])
    assert mean_after(values, rows).tolist() == [3.0, 4.0, 0.0, 5.0, 0.0]


def test_minillm_has_the_gradient_of_the_reverse_kl_of_whole_answers():
    """Two tokens of two kinds, all four answers weighted by their probability: with lengths 2 the norm divides by 1, so it is exact."""
    student = torch.tensor([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.2]], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.1, 0.4], [-0.3, 0.6], [0.2, 0.2]], dtype=torch.float64)

    def first_and_second(logits, first):
        return torch.stack([logits[0], logits[1 + first]])

    surrogate, kl = 0.0, 0.0
    for a in (0, 1):
        for b in (0, 1):
            q, p = first_and_second(student, a), first_and_second(teacher, a)
            logq = q.log_softmax(-1)[[0, 1], [a, b]].sum()
            logp = p.log_softmax(-1)[[0, 1], [a, b]].sum()
            kl = kl + logq.exp() * (logq - logp)
            given = TokenViews(q, p, torch.tensor([a, b]), torch.tensor([0, 0]))
            surrogate = surrogate + logq.exp().detach() * MiniLLM()(given).sum()
    (expected,) = torch.autograd.grad(kl, student, retain_graph=True)
    (found,) = torch.autograd.grad(surrogate, student)
    torch.testing.assert_close(found, expected)
