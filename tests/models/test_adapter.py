"""What peft's adapters train, how they start, and that AdaLoRA's ranks follow the run."""

from __future__ import annotations

import pytest

from polm_bench.errors import BadBudget, BadOverride
from polm_bench.models.adapter import AdaLora, Adapter
from polm_bench.models.load import load_model
from polm_bench.models.tuning import Training

D, FF, LAYERS = 128, 256, 2  # of the toy model


@pytest.fixture
def toy(toy_model):
    return load_model(toy_model)


def logits(model):
    import torch

    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(1, 20)[None]).logits


def trained(model) -> dict[str, int]:
    return {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}


EVERY_LINEAR = sum(d_in + d_out for d_in, d_out in [(D, D)] * 4 + [(D, FF)] * 2 + [(FF, D)]) * LAYERS
COUNTED = {
    "lora": (Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear"}), 4 * EVERY_LINEAR),
    "dora": (
        Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear", "use_dora": True}),
        4 * EVERY_LINEAR + (5 * D + 2 * FF) * LAYERS,  # one magnitude a row of W
    ),
    "lora_fa": (
        Adapter("LoraConfig", {"r": 4, "target_modules": ["q_proj"]}, freeze=("lora_A",)),
        4 * D * LAYERS,
    ),
    "ia3": (
        Adapter(
            "IA3Config", {"target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
        ),
        (D + D + FF) * LAYERS,
    ),
    "vera": (Adapter("VeraConfig", {"r": 16, "target_modules": ["q_proj", "v_proj"]}), 2 * (16 + D) * LAYERS),
    "p_tuning_v2": (Adapter("PrefixTuningConfig", {"num_virtual_tokens": 5}), 5 * 2 * D * LAYERS),
    "prompt_tuning": (Adapter("PromptTuningConfig", {"num_virtual_tokens": 5}), 5 * D),
    "llama_adapter": (Adapter("AdaptionPromptConfig", {"adapter_len": 5, "adapter_layers": 2}), (5 * D + 1) * 2),
    "ln_tuning": (Adapter("LNTuningConfig", {}), D * (2 * LAYERS + 1)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_it_trains_as_many_weights_as_the_paper_counts(toy, name):
    tuning, count = COUNTED[name]
    model = tuning.attach(toy)
    assert sum(trained(model).values()) == count == tuning.trained(model)


@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "llama_adapter", "ln_tuning"])
def test_it_starts_as_the_model_it_adapts(toy, name):
    before = logits(toy)
    assert logits(COUNTED[name][0].attach(toy)).sub(before).abs().max() < 1e-5


def test_ia3_starts_at_ones(toy):
    model = COUNTED["ia3"][0].attach(toy)
    assert all((weight == 1).all() for name, weight in model.named_parameters() if "ia3_l" in name)


def test_doras_magnitudes_start_as_the_norms_of_the_rows(toy):
    import torch

    layer = COUNTED["dora"][0].attach(toy).base_model.model.model.layers[0].self_attn.q_proj
    magnitude = layer.lora_magnitude_vector["default"].weight
    assert torch.allclose(magnitude, layer.base_layer.weight.norm(dim=1), atol=1e-6)


def test_pissa_starts_from_the_principal_directions_and_leaves_the_rest_in_the_base(toy):
    import torch

    before = toy.model.layers[0].self_attn.q_proj.weight.detach().clone()
    adapter = Adapter(
        "LoraConfig", {"r": 4, "lora_alpha": 4, "target_modules": ["q_proj"], "init_lora_weights": "pissa"}
    )
    layer = adapter.attach(toy).base_model.model.model.layers[0].self_attn.q_proj
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    u, s, vh = torch.linalg.svd(before)
    assert torch.allclose(product, u[:, :4] * s[:4] @ vh[:4], atol=1e-5)
    assert torch.allclose(layer.base_layer.weight + product, before, atol=1e-5)


def test_rates_and_frozen_parts_go_by_name(toy):
    adapter = Adapter("LoraConfig", {"r": 4, "target_modules": ["q_proj"]}, freeze=("lora_A",), rates={"lora_B": 16.0})
    names = trained(adapter.attach(toy))
    assert names
    assert all("lora_B" in name and adapter.rate(name) == 16 for name in names)
    assert adapter.rate("q_proj.lora_A.default.weight") == 1


def test_a_kind_that_peft_does_not_have_and_an_adapter_without_weights_are_mistakes(toy):
    with pytest.raises(BadOverride, match="no configuration class 'LoraKonfig'"):
        Adapter("LoraKonfig", {}).attach(toy)
    with pytest.raises(BadOverride, match="trains no weight"):
        Adapter("LoraConfig", {"r": 4, "target_modules": ["q_proj"]}, freeze=("lora",)).attach(toy)


ADALORA = AdaLora(
    "AdaLoraConfig", {"init_r": 6, "target_r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
)


def test_adaloras_schedule_is_that_of_the_run(toy):
    model = ADALORA.attach(toy)
    ADALORA.begin(model, Training(steps=100, accumulation=4, timed=False, seen=[]))
    config = model.peft_config["default"]
    assert (config.total_step, config.tinit, config.tfinal) == (100, 10, 30)
    assert config.orth_reg_weight == 0.5 / 4  # it is added to each of four micro-batches
    allocator = model.base_model.rankallocator
    budgets = [allocator.budget_schedule(step)[0] for step in range(100)]
    layers = 2 * LAYERS
    assert budgets[:11] == [6 * layers] * 11
    assert budgets[40] == int((6 - 2) * layers * (1 - 30 / 60) ** 3 + 2 * layers)  # Eq. 12
    assert set(budgets[71:]) == {2 * layers}


def test_adalora_refuses_a_budget_in_seconds(toy):
    with pytest.raises(BadBudget, match="seconds"):
        ADALORA.begin(ADALORA.attach(toy), Training(steps=9, accumulation=1, timed=True, seen=[]))
