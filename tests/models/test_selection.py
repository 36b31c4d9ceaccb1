"""Which of a model's own weights are trained: by name, by a mask, by a draw at every step."""

from __future__ import annotations

import pytest

from polm_bench.errors import BadModel
from polm_bench.models.load import load_model
from polm_bench.models.selection import Dropped, Masked, Selection, largest, scores, with_biases
from polm_bench.models.tuning import Training


@pytest.fixture
def toy(toy_model):
    return load_model(toy_model)


def row(first: int):
    import torch

    ids = torch.arange(first, first + 8)[None]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


def test_the_largest_values_are_taken_over_all_tensors_together():
    import torch

    masks = largest({"a": torch.tensor([[1.0, 5.0], [2.0, 4.0]]), "b": torch.tensor([3.0, 0.0])}, 3)
    assert masks["a"].tolist() == [[0, 1], [0, 1]]
    assert masks["b"].tolist() == [1, 0]


def test_fisher_is_the_mean_of_squares_and_second_order_the_square_of_the_mean(toy):
    import torch

    grads = []
    for first in (1, 50):
        toy.zero_grad()
        toy(**row(first)).loss.backward()
        grads.append(toy.model.norm.weight.grad.clone())
    both = [row(1), row(50)]
    fisher, second = (scores(toy, both, kind)["model.norm.weight"] for kind in ("fisher", "second_order"))
    assert torch.allclose(fisher, (grads[0] ** 2 + grads[1] ** 2) / 2, atol=1e-9)
    assert torch.allclose(second, ((grads[0] + grads[1]) / 2) ** 2, atol=1e-9)
    assert all(weight.grad is None for weight in toy.parameters())


def test_only_weights_under_the_mask_move(toy):
    import torch

    tuning = Masked("fisher", density=0.01, rows=2, share=0.1)
    model = tuning.attach(toy)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    masks = largest(scores(model, [row(1), row(50)], "fisher"), tuning.trained(model))
    tuning.begin(model, Training(steps=3, accumulation=1, timed=False, seen=[row(1), row(50)]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for first in (1, 50, 90):
        optimizer.zero_grad()
        model(**row(first)).loss.backward()
        optimizer.step()
    moved = {name: weight.detach() != before[name] for name, weight in model.named_parameters()}
    assert all((moved[name] <= masks[name].bool()).all() for name in moved)
    assert tuning.trained(model) == int(0.01 * sum(weight.numel() for weight in model.parameters()))
    assert 0 < sum(int(part.sum()) for part in moved.values()) <= tuning.trained(model)


def test_dropped_gradients_are_drawn_by_the_step_and_keep_their_mean(toy):
    import torch

    tuning, model = Dropped(kept=0.25), toy

    def draw(step):
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        tuning.before_step(model, step, seed=0)
        return torch.cat([weight.grad.flatten() for weight in model.parameters()])

    first, again, other = draw(3), draw(3), draw(4)
    assert set(first.unique().tolist()) == {0.0, 4.0}
    assert first.mean() == pytest.approx(1.0, abs=0.02)
    assert first.equal(again)
    assert not first.equal(other)


def test_given_biases_change_nothing_and_are_all_that_bitfit_trains(toy):
    import torch

    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        before = toy(input_ids=ids).logits
        wider = with_biases(toy)
        assert torch.equal(wider(input_ids=ids).logits, before)
    model = Selection((r"\.bias$",), add_biases=True).attach(toy)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert {name.rpartition(".")[2] for name in names} == {"bias"}
    assert sum(model.get_parameter(name).numel() for name in names) == (5 * 128 + 2 * 256) * 2


def test_a_name_that_no_weight_has_is_a_mistake(toy):
    with pytest.raises(BadModel, match=r"no weight whose name matches \\\.bias\$"):
        Selection((r"\.bias$",)).attach(toy)
