"""All weights moved along a random subspace, and folded into a plain model."""

from __future__ import annotations

import pytest
import torch
from tests.models.test_adapter import logits

from polm_bench.errors import BadOverride
from polm_bench.models.load import load_model
from polm_bench.models.subspace import IntrinsicSaid
from polm_bench.objectives.fastfood import fastfood

SAID = IntrinsicSaid(dimensions=200)


@pytest.fixture
def toy(toy_model):
    torch.manual_seed(0)
    return load_model(toy_model)


def test_it_starts_as_the_model_and_trains_exactly_its_dimensions(toy):
    before, weights = logits(toy), len(list(toy.parameters()))
    model = SAID.attach(toy)
    assert logits(model).equal(before)
    assert SAID.trained(model) == 200
    assert model.intrinsic.scales.numel() == weights


def test_the_gradient_is_that_of_all_weights_projected_back(toy, toy_model):
    ids = torch.arange(1, 20)[None]
    plain = load_model(toy_model)
    plain(input_ids=ids, labels=ids).loss.backward()
    model = IntrinsicSaid(dimensions=24).attach(toy)
    model(input_ids=ids, labels=ids).loss.backward()
    expected = torch.zeros(len(model.intrinsic.vector))
    for name, weight in plain.named_parameters():
        place, _, last = name.rpartition(".")
        p = model.get_submodule(place).parametrizations[last][0]
        columns = [fastfood(unit, p.signs, p.order, p.gauss, weight.numel()) for unit in torch.eye(len(expected))]
        expected += torch.stack(columns) @ weight.grad.flatten()
    assert torch.allclose(model.intrinsic.vector.grad, expected, rtol=1e-3, atol=1e-5)
    assert model.intrinsic.scales.grad.abs().max() == 0  # as the vector is zero


def test_what_is_left_in_the_end_is_a_plain_model_that_says_the_same(toy, toy_model):
    model = SAID.attach(toy)
    with torch.no_grad():
        model.intrinsic.vector.normal_(std=0.05)
        model.intrinsic.scales.uniform_(0.5, 1.5)
    said = logits(model)
    SAID.finish(model)
    plain = load_model(toy_model)
    assert logits(model).equal(said)
    assert not said.equal(logits(plain))
    assert {name: w.shape for name, w in model.named_parameters()} == {n: w.shape for n, w in plain.named_parameters()}
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_each_weight_moves_by_the_length_of_the_vector_times_its_factor(toy, toy_model):
    model = SAID.attach(toy)
    with torch.no_grad():
        model.intrinsic.vector.normal_()
        model.intrinsic.scales.fill_(0.5)
    length = model.intrinsic.vector.norm().item()
    SAID.finish(model)
    for (_, after), (_, before) in zip(model.named_parameters(), load_model(toy_model).named_parameters(), strict=True):
        assert (after - before).norm().item() == pytest.approx(0.5 * length, rel=0.3)


def test_dimensions_must_be_more_than_the_factors(toy):
    with pytest.raises(BadOverride, match=r"adapter\.dimensions is 5"):
        IntrinsicSaid(dimensions=5).attach(toy)
