"""LoRA with gates on its ranks and LoRA of every rank at once, beside LoRA itself."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.test_adapter import logits

from polm_bench.errors import BadBudget, BadOverride
from polm_bench.models.load import load_model
from polm_bench.models.ranks import DyLora, Sora
from polm_bench.models.reparameterized import Gate, Truncation
from polm_bench.models.tuning import Training

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False}
SORA = Sora("LoraConfig", LORA, shrink=1.0)
DYLORA = DyLora("LoraConfig", LORA, served=2)


@pytest.fixture
def toy(toy_model):
    torch.manual_seed(0)
    return load_model(toy_model)


def of(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def change(module):
    """What LoRA adds to a weight."""
    return module.get_delta_weight("default").detach()


def adapted(model):
    return [module for module in model.modules() if hasattr(module, "lora_A")]


def test_a_gate_is_moved_by_the_threshold_and_no_further_than_to_zero():
    gate = Gate(torch.zeros(4, 2))
    gate.gate.data = torch.tensor([0.5, -0.5, 0.1, -0.05])
    gate.threshold = 0.1
    gate.shrink()
    assert gate.gate.tolist() == pytest.approx([0.4, -0.4, 0.0, 0.0])
    assert gate(torch.ones(4, 2))[:, 0].tolist() == pytest.approx([0.4, -0.4, 0.0, 0.0])


def test_the_thresholds_of_all_steps_take_what_was_asked(toy):
    model = SORA.attach(toy)
    SORA.begin(model, Training(steps=10, accumulation=1, timed=False, seen=[]))
    before = torch.cat([gate.gate.detach().clone() for gate in of(model, Gate)])
    for step in range(10):
        SORA.after_step(model, step)
    after = torch.cat([gate.gate.detach() for gate in of(model, Gate)])
    assert torch.allclose(after, before.sign() * (before.abs() - 1.0).clamp(min=0), atol=1e-5)
    assert 0 < (after == 0).float().mean() < 1
    with pytest.raises(BadBudget, match="give steps or tokens"):
        SORA.begin(model, Training(steps=9, accumulation=1, timed=True, seen=[]))


def test_a_finished_sora_is_lora_without_the_ranks_whose_gates_are_zero(toy):
    model = SORA.attach(toy)
    SORA.begin(model, Training(steps=1, accumulation=1, timed=False, seen=[]))
    SORA.after_step(model, 0)
    gates = [gate.gate.detach().clone() for gate in of(model, Gate)]
    downs = [module.lora_A["default"].parametrizations.weight.original.detach().clone() for module in adapted(model)]
    said = logits(model)
    SORA.finish(model)
    assert logits(model).sub(said).abs().max() == 0
    assert not any(name.endswith(".gate") for name in model.state_dict())
    for module, gate, down in zip(adapted(model), gates, downs, strict=True):
        up = module.lora_B["default"].weight.detach()
        assert torch.allclose(change(module), 2 * up @ (gate[:, None] * down), atol=1e-6)  # alpha / r = 2


def test_dylora_at_rank_b_is_lora_of_its_first_b_ranks(toy):
    model = DYLORA.attach(toy)
    (truncation,) = of(model, Truncation)
    truncation.rank = 2
    said = logits(model)
    weights = [
        (module.lora_A["default"].parametrizations.weight.original.detach(), module.lora_B["default"].weight.detach())
        for module in adapted(model)
    ]
    expected = [8 / 2 * up[:, :2] @ down[:2] for down, up in copy.deepcopy(weights)]
    assert all(torch.allclose(change(m), e, atol=1e-6) for m, e in zip(adapted(model), expected, strict=True))
    DYLORA.finish(model)
    for module in adapted(model):  # as peft scales a LoRA of rank 2 when it loads it
        module.scaling["default"] = 8 / 2
    assert logits(model).sub(said).abs().max() < 1e-5
    assert model.peft_config["default"].r == 2
    assert {len(module.lora_A["default"].weight) for module in adapted(model)} == {2}


def test_ranks_above_the_one_that_was_drawn_have_no_gradient(toy):
    model = DYLORA.attach(toy)
    (truncation,) = of(model, Truncation)
    truncation.rank = 3
    model(input_ids=torch.arange(1, 9)[None], labels=torch.arange(1, 9)[None]).loss.backward()
    for module in adapted(model):
        down, up = module.lora_A["default"].parametrizations.weight.original.grad, module.lora_B["default"].weight.grad
        assert down[:3].abs().min(1).values.max() > 0
        assert down[3:].abs().max() == up[:, 3:].abs().max() == 0


def test_every_rank_is_drawn_as_often_and_the_same_for_the_same_step(toy):
    model = DYLORA.attach(toy)
    (truncation,) = of(model, Truncation)

    def drawn(step):
        DYLORA.before_step(model, step, seed=0)
        return truncation.rank

    ranks = [drawn(step) for step in range(400)]
    assert ranks == [drawn(step) for step in range(400)]
    assert all(80 < ranks.count(rank) < 120 for rank in (1, 2, 3, 4))  # two and a half standard deviations about 100


def test_a_rank_that_is_not_trained_can_not_be_kept(toy):
    with pytest.raises(BadOverride, match="rank 5 is to be kept, but ranks up to 4 are trained"):
        DyLora("LoraConfig", LORA, served=5).attach(toy)
