"""The cache of few bits: grouping, rounding, and when tokens leave the residual."""

from __future__ import annotations

import pytest
import torch

from polm_bench.decoding.cache import Kivi
from polm_bench.decoding.kivi import KiviLayer, pack, unpack
from polm_bench.errors import BadOverride
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.run.job import silent


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 8, 4, generator=generator) for _ in range(2)]


class Silence:
    progress = staticmethod(silent)


def test_keys_are_grouped_over_tokens_of_a_channel_and_values_over_channels_of_a_token(states):
    keys, values = states
    assert pack(keys, 2, 4, per_channel=True).scale.shape == (
        2,
        3,
        2,
        1,
        4,
    )  # 8 tokens in groups of 4, each channel apart
    assert pack(values, 2, 2, per_channel=False).scale.shape == (
        2,
        3,
        8,
        2,
        1,
    )  # 4 channels in groups of 2, each token apart


def test_a_channel_that_stands_out_spoils_no_other_in_keys_but_does_in_values():
    outlier = torch.rand(1, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    outlier[..., 0] += 100
    lost = [
        (unpack(pack(outlier, 2, 4, per_channel=way), 2, 4, way, torch.float32) - outlier)[..., 1:].abs().max()
        for way in (True, False)
    ]
    assert lost[0] < 0.2 < lost[1]  # a sixth of the range of 1, and most of it


def test_two_bits_have_four_values_between_the_smallest_and_the_largest():
    values = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4)
    packed = pack(values, 2, 4, per_channel=False)
    assert packed.codes.tolist() == [[[[0b11100100]]]]  # the first value in the lowest bits
    assert unpack(packed, 2, 4, False, torch.float32).equal(values)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_error_is_at_most_half_a_step(states, bits):
    keys, _ = states
    back = unpack(pack(keys, bits, 8, per_channel=True), bits, 8, True, torch.float32)
    step = (keys.amax(2, keepdim=True) - keys.amin(2, keepdim=True)) / (2**bits - 1)
    assert ((back - keys).abs() <= 0.5 * step + 4e-3).all()  # scales and minima are kept in half precision


def test_the_prompt_is_seen_in_full_and_later_tokens_see_it_rounded(states):
    keys, values = states
    layer = KiviLayer(Kivi(bits=2, group=2, residual=4))
    seen = layer.update(keys[:, :, :6], values[:, :, :6])
    assert seen[0].equal(keys[:, :, :6])
    assert seen[1].equal(values[:, :, :6])
    seen = layer.update(keys[:, :, 6:7], values[:, :, 6:7])
    assert not seen[0][:, :, :4].equal(keys[:, :, :4])  # four keys were a whole residual
    assert seen[0][:, :, 4:].equal(keys[:, :, 4:7])
    assert not seen[1][:, :, :2].equal(values[:, :, :2])  # the last four values stay in full
    assert seen[1][:, :, 2:].equal(values[:, :, 2:7])


def test_what_is_rounded_once_is_not_rounded_again(states):
    keys, values = states
    layer = KiviLayer(Kivi(bits=2, group=2, residual=2))
    layer.update(keys[:, :, :4], values[:, :, :4])
    first = layer.update(keys[:, :, 4:5], values[:, :, 4:5])[0][:, :, :4].clone()
    for token in range(5, 8):
        again = layer.update(keys[:, :, token : token + 1], values[:, :, token : token + 1])[0]
        assert again[:, :, :4].equal(first)
    assert layer.get_seq_length() == 8


def test_the_cache_is_as_small_as_its_bits_say():
    layer = KiviLayer(Kivi(bits=2, group=32, residual=32))
    states = torch.randn(2, 2, 256, 64)
    layer.update(states, states)
    plain = 2 * states.nbytes
    expected = 2 / 32 + 2 * 16 / 32 / 32  # of fp32: two bits a value, a scale and a minimum of 16 bits for 32 values
    residual = 32 / 256 / 2  # of the values only; the keys' residual has just left
    rounded = (256 + 224) / 512
    assert layer.nbytes() / plain == pytest.approx(rounded * expected + residual, rel=1e-6)


def test_groups_that_do_not_fit_the_model_are_refused(toy_model):
    model, tokenizer = load_model(toy_model), load_tokenizer(toy_model)
    with pytest.raises(BadOverride, match="groups of 64 must divide"):
        Kivi(bits=2, group=64, residual=64).lm(model, tokenizer, 8, 0, Silence())


@pytest.mark.slow
def test_eight_bits_answer_as_the_plain_cache_does(toy_model):
    model, tokenizer = load_model(toy_model), load_tokenizer(toy_model)
    lm = Kivi(bits=8, group=8, residual=8).lm(model, tokenizer, 8, 0, Silence())
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        whole = model(input_ids=ids).logits[:, -1]
        cache = lm.new_cache()
        model(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True)
        last = model(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1]
    assert torch.allclose(last, whole, atol=2e-2)
    assert not last.equal(whole)
