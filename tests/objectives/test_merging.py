"""Merging rules on weights small enough to work out by hand."""

from __future__ import annotations

import pytest
import torch

from polm_bench.objectives.merging import Average, Consensus, FisherAverage, NormWeighted, RegMean

BASE = {"w": torch.tensor([[1.0, 1.0], [1.0, 1.0]])}


def moved(*rows: list[list[float]]) -> list[dict[str, torch.Tensor]]:
    """Models whose task vectors are `rows`."""
    return [{"w": BASE["w"] + torch.tensor(row)} for row in rows]


def test_an_average_of_two_is_half_way():
    merged = Average()(BASE, moved([[2.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 0.0]]), ())
    assert merged["w"].tolist() == [[2.0, 3.0], [1.0, 1.0]]


def test_metagpt_weighs_a_task_vector_by_its_squared_length():
    models = moved([[1.0, 0.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 0.0]])  # squares 1 and 9
    assert NormWeighted().coefficients(BASE, models) == pytest.approx([0.1, 0.9])
    assert NormWeighted()(BASE, models, ())["w"].flatten().tolist() == pytest.approx([1.1, 3.7, 1.0, 1.0])


def test_metagpt_coefficients_minimise_its_bound():
    """The paper's bound on the loss of all tasks is sum_t |tau_t|^2 |sum_k l_k tau_k - tau_t|^2; for orthogonal task vectors it has one minimum."""
    vectors = torch.diag(torch.tensor([1.0, 2.0, 0.5]))
    models = [{"w": vector} for vector in vectors]
    found = torch.tensor(NormWeighted().coefficients({"w": torch.zeros(3)}, models))

    def bound(scales: torch.Tensor) -> torch.Tensor:
        whole = scales @ vectors
        return sum(v.square().sum() * (whole - v).square().sum() for v in vectors)

    for direction in torch.eye(3):
        assert bound(found) < bound(found + 0.01 * direction)
        assert bound(found) < bound(found - 0.01 * direction)


def test_consensus_keeps_what_two_tasks_need_and_drops_what_one_or_none_needs():
    models = moved([[1.0, 5.0], [0.1, 2.0]], [[1.0, 0.0], [-0.1, 1.0]])
    # whole: 2, 5, 0, 3; both need the first and the last (1 > 0.4 * 2); the second is one task's; where they cancel both need it, but it adds 0
    merged = Consensus(threshold=0.4, agree=2, scale=0.5)(BASE, models, ())
    assert merged["w"].flatten().tolist() == pytest.approx([2.0, 1.0, 1.0, 2.5])


def test_consensus_of_no_task_at_all_is_task_arithmetic():
    models = moved([[1.0, 5.0], [0.1, 2.0]], [[1.0, 0.0], [-0.1, 1.0]])
    merged = Consensus(threshold=0.4, agree=2, scale=0.5)
    assert merged._one(BASE["w"], [torch.zeros(2, 2)] * 2).equal(BASE["w"])
    plain = Consensus(threshold=1e-9, agree=1, scale=0.5)(BASE, models, ())
    assert plain["w"].flatten().tolist() == pytest.approx([2.0, 3.5, 1.0, 2.5])


def test_fisher_follows_the_model_that_is_sure():
    models = moved([[2.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [0.0, 0.0]])
    sure = [{"w": torch.tensor([[3.0, 0.0], [0.0, 0.0]])}, {"w": torch.tensor([[1.0, 1.0], [0.0, 0.0]])}]
    merged = FisherAverage(floor=1e-12)(BASE, models, sure)["w"]
    assert merged[0].tolist() == pytest.approx([(3 * 3.0 + 1 * 1.0) / 4, 5.0])
    assert merged[1].tolist() == pytest.approx([1.0, 1.0])


def test_regmean_solves_the_least_squares_problem():
    torch.manual_seed(0)
    inputs = [torch.randn(20, 3), torch.randn(30, 3)]
    weights = [torch.randn(2, 3), torch.randn(2, 3)]
    models, grams = [{"w": w} for w in weights], [{"w": x.T @ x} for x in inputs]
    merged = RegMean(alpha=1.0)({"w": torch.zeros(2, 3)}, models, grams)["w"]
    stacked = torch.linalg.lstsq(torch.cat(inputs), torch.cat([x @ w.T for x, w in zip(inputs, weights)])).solution.T
    assert torch.allclose(merged, stacked, atol=1e-5)


def test_regmean_of_equal_models_is_that_model_and_without_products_a_weighted_mean():
    weight, gram = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    same = RegMean(alpha=0.9)({"w": weight}, [{"w": weight}] * 2, [{"w": gram}] * 2)["w"]
    assert torch.allclose(same, weight, atol=1e-5)
    other = {"w": torch.tensor([[3.0, 6.0]])}
    heavier = {"w": 3 * gram}
    merged = RegMean(alpha=0.0)({"w": weight}, [{"w": weight}, other], [{"w": gram}, heavier])["w"]
    assert merged[0].tolist() == pytest.approx([(1 * 2 + 3 * 6) / 8, (2 * 2 + 6 * 6) / 8])


def test_regmean_averages_what_is_no_linear_layer():
    base = {"norm": torch.ones(2)}
    merged = RegMean(alpha=0.9)(
        base, [{"norm": torch.tensor([0.0, 2.0])}, {"norm": torch.tensor([2.0, 2.0])}], [{}, {}]
    )
    assert merged["norm"].tolist() == [1.0, 2.0]
