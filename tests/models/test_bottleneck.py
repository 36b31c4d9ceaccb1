"""Modules of our own inside a frozen model: how they start, what they compute, what they train."""

from __future__ import annotations

import pytest

from polm_bench.errors import BadModel
from polm_bench.models.bottleneck import Bottleneck, Hypercomplex, Inserted, ScaleShift
from polm_bench.models.load import load_model, load_tokenizer

D, LAYERS = 128, 2


@pytest.fixture
def toy(toy_model):
    return load_model(toy_model)


def logits(model):
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(1, 20)[None]).logits


def count(model) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


SERIAL = Bottleneck(at=("o_proj", "down_proj"), form="serial", activation="gelu", size=8)
PARALLEL = Bottleneck(at=(".mlp",), form="parallel", activation="relu", size=8, scale=4.0)
COMPACTER = Hypercomplex(at=("o_proj", "down_proj"), activation="gelu", size=8, n=4)


def test_serial_adapters_start_near_the_identity_and_train_themselves_and_the_norms(toy):
    before = logits(toy)
    model = Inserted(SERIAL, also=("norm",)).attach(toy)
    assert 0 < logits(model).sub(before).abs().max() < 0.02
    assert count(model) == 2 * LAYERS * (2 * D * 8 + 8 + D) + (2 * LAYERS + 1) * D  # Section 2.1: 2md + d + m each


def test_parallel_adapters_start_as_the_identity(toy):
    before = logits(toy)
    model = Inserted(PARALLEL).attach(toy)
    assert logits(model).equal(before)
    assert count(model) == LAYERS * (2 * D * 8 + 8 + D)


def test_a_parallel_adapter_reads_the_input_and_a_serial_one_the_output(toy):
    import torch

    x = torch.randn(1, 3, D)
    inner = toy.model.layers[0].mlp
    with torch.no_grad():
        y = inner(x)
        for form, read in (("parallel", x), ("serial", y)):
            layer = Bottleneck(at=(".mlp",), form=form, activation="relu", size=8, scale=2.0)._around(inner, D)
            layer.up.weight.normal_()
            told = y + 2.0 * (torch.relu(read @ layer.down.weight.T + layer.down.bias) @ layer.up.weight.T)
            assert torch.allclose(layer(x), told, atol=1e-5)


def test_a_hypercomplex_weight_is_a_sum_of_kronecker_products(toy):
    import torch

    Inserted(COMPACTER).attach(toy)
    down = toy.model.layers[0].mlp.down_proj.down
    rules = toy.compacter_rules
    told = sum(torch.kron(rules[i], down.left[i] @ down.right[i]) for i in range(4))
    assert down.weight().shape == (D, 8)
    assert torch.allclose(down.weight(), told)


def test_compacters_factors_are_drawn_for_each_summand_by_itself():
    """Glorot's even numbers with a gain of sqrt(2): up to sqrt(2) sqrt(6 / (rows + columns)) of one summand's factor."""
    import torch

    from polm_bench.models.layers import Kronecker

    torch.manual_seed(0)
    layer = Kronecker(torch.nn.Module(), "", 4 * 512, 4 * 128, 4)
    for factor, size in ((layer.left, 512), (layer.right, 128)):
        most = (2 * 6 / (size + 1)) ** 0.5
        assert 0.98 * most < factor.abs().max() <= most


def test_compacters_rules_are_shared_by_all_layers(toy):
    model = Inserted(COMPACTER).attach(toy)
    each = (D + 8) + 8 + (8 + D) + D  # factors and biases of both projections
    assert count(model) == 4**3 + 2 * LAYERS * each
    with pytest.raises(BadModel, match="must divide"):
        Hypercomplex(at=("o_proj",), activation="gelu", size=9, n=4).apply(toy)


def test_a_scale_of_one_and_a_shift_of_zero_change_nothing(toy):
    import torch

    before = logits(toy)
    model = Inserted(ScaleShift(at=("_proj", "norm"))).attach(toy)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert count(model) == 2 * ((5 * D + 2 * 256 + 2 * D) * LAYERS + D)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.fill_(1.0 if name.endswith("gamma") else 0.0)
    assert trained
    assert torch.allclose(logits(model), before, atol=1e-6)


def test_a_norm_of_each_head_gets_as_many_scales_as_it_has_channels():
    from transformers import AutoModelForCausalLM, Qwen3Config

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    model = Inserted(ScaleShift(at=("_proj", "norm"))).attach(
        AutoModelForCausalLM.from_config(Qwen3Config(**sizes, **heads))
    )
    assert model.model.layers[0].self_attn.q_norm.gamma.shape == (16,)
    assert model.model.layers[0].input_layernorm.gamma.shape == (32,)
    assert logits(model).shape == (1, 19, 64)


def test_a_module_that_is_not_there_is_a_mistake(toy):
    with pytest.raises(BadModel, match="no module whose name ends with c_proj"):
        Inserted(Bottleneck(at=("c_proj",), form="serial", activation="gelu", size=8)).attach(toy)


@pytest.mark.parametrize("structure", [SERIAL, PARALLEL, COMPACTER, ScaleShift(at=("_proj", "norm"))])
def test_a_written_model_is_read_back_with_its_modules(toy, toy_model, tmp_path, structure):
    tuning = Inserted(structure)
    model = tuning.attach(toy)
    tuning.save(model, load_tokenizer(toy_model), tmp_path)
    assert logits(load_model(tmp_path)).equal(logits(model))
