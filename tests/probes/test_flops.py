"""Counted operations against the count by hand."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        vocab_size=96,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def by_hand(length: int) -> int:
    """Matrix products of the model above: four projections, three of the MLP, the output layer; two for attention."""
    linear = 2 * (4 * 32 * 32 + 3 * 32 * 64) + 32 * 96
    rotary = 2 * 8 * length  # angles: positions times 8 frequencies
    return 2 * linear * length + 2 * (2 * 2 * 32 * length * length) + rotary


def test_a_forward_pass_counts_every_matrix_product(llama):
    from polm_bench.probes.flops import count_flops

    count = count_flops(llama)
    for length in (1, 10, 333):
        assert count.score(length) == by_hand(length)


def test_a_body_takes_all_but_the_output_layer(llama):
    from polm_bench.probes.flops import count_flops

    whole, body = count_flops(llama), count_flops(llama.base_model)
    assert whole.score(10) - body.score(10) == 2 * 32 * 96 * 10
    assert whole.train(10) - body.train(10) == 3 * (2 * 32 * 96 * 10)


def test_training_takes_three_forward_passes(llama):
    from polm_bench.probes.flops import count_flops

    count = count_flops(llama)
    assert count.train(100) == pytest.approx(
        3 * count.score(100), rel=1e-3
    )  # the first layer's input needs no gradient


def test_frozen_weights_take_no_weight_gradient(llama):
    import copy

    from polm_bench.probes.flops import count_flops

    frozen = copy.deepcopy(llama)
    for name, weight in frozen.named_parameters():
        weight.requires_grad_("layers.1.mlp" in name)
    assert count_flops(frozen).train(100) < count_flops(llama).train(100)
    assert count_flops(frozen).score(100) == count_flops(llama).score(100)


def test_counting_leaves_the_model_as_it_was(llama):
    import torch

    from polm_bench.probes.flops import count_flops

    before = {name: weight.clone() for name, weight in llama.named_parameters()}
    attention = llama.config._attn_implementation
    count_flops(llama)
    assert all(torch.equal(before[name], weight) for name, weight in llama.named_parameters())
    assert llama.config._attn_implementation == attention
    assert all(weight.grad is None for weight in llama.parameters())


def test_a_model_of_the_same_shape_is_counted_once_and_another_anew(toy_model, tmp_path, monkeypatch):
    import copy
    import shutil

    import torch

    from polm_bench.models.load import load_model
    from polm_bench.probes import flops

    monkeypatch.setattr(flops, "_COUNTS", {})
    llama = load_model(toy_model)
    first = flops.count_flops(llama)
    trained = load_model(shutil.copytree(toy_model, tmp_path / "trained"))
    with torch.no_grad():
        trained.model.embed_tokens.weight.add_(1)
    assert flops.count_flops(trained) == first
    assert len(flops._COUNTS) == 1
    narrow = copy.deepcopy(llama)
    narrow.model.layers[1].mlp = torch.nn.Identity()
    assert flops.count_flops(narrow).score(100) < first.score(100)
    fewer = copy.deepcopy(llama)
    fewer.model.layers[0].requires_grad_(False)
    assert flops.count_flops(fewer).train(100) < first.train(100)
    assert len(flops._COUNTS) == 3
