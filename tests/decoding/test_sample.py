from __future__ import annotations

import pytest
import torch

from polm_bench.decoding.sample import drawn, nucleus
from polm_bench.decoding.sampling import Sampling

CHANCES = torch.tensor([[0.5, 0.3, 0.15, 0.05]])


@pytest.mark.parametrize(("draw", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.81, 2), (0.96, 3), (0.99999, 3)])
def test_a_draw_takes_the_token_in_whose_part_it_falls(draw, token):
    choose = drawn(Sampling(4, temperature=1.0), torch.full((1, 4), draw))
    assert choose(CHANCES.log(), torch.tensor([0]), 2).tolist() == [token]


def test_a_lower_temperature_sharpens():
    choose = drawn(Sampling(4, temperature=0.5), torch.full((1, 4), 0.68))  # squares: 0.685, 0.247, 0.062, 0.007
    assert choose(CHANCES.log(), torch.tensor([0]), 0).tolist() == [0]


def test_a_nucleus_is_the_smallest_set_that_holds_its_share():
    assert nucleus(CHANCES.clone(), 0.79)[0].tolist() == pytest.approx([0.5, 0.3, 0, 0])
    assert nucleus(CHANCES.clone(), 0.81)[0].tolist() == pytest.approx([0.5, 0.3, 0.15, 0])
    assert nucleus(CHANCES.clone(), 0.1)[0].tolist() == pytest.approx([0.5, 0, 0, 0])


def test_a_draw_never_leaves_the_nucleus():
    choose = drawn(Sampling(4, top_p=0.7), torch.full((1, 4), 0.9999999))
    assert choose(CHANCES.log(), torch.tensor([0]), 0).tolist() == [1]


def test_draws_follow_the_distribution():
    random = torch.Generator().manual_seed(0)
    choose = drawn(Sampling(1), torch.rand(4000, 1, generator=random))
    tokens = choose(CHANCES.log().expand(4000, -1), torch.arange(4000), 0)
    shares = [(tokens == token).float().mean().item() for token in range(4)]
    assert shares == pytest.approx(CHANCES[0].tolist(), abs=0.025)  # three standard errors of a share of a half
