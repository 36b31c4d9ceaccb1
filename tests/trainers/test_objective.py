"""What objectives ask of the pair trainer: the whole batch, values for tokens, a reference in memory, one that moves."""

from __future__ import annotations

import math

import pytest
import torch
from tests.trainers.test_pair import PAD, losses, pair_rows, toy_model, train, with_reference

from polm_bench.objectives import AOT, BCO, DNO, DPO, KTO, LDDPO, TDPO1, TDPO2, WPO, AOTUnpaired, PairwiseCringe
from polm_bench.trainers.logps import by_sequence
from polm_bench.trainers.objective import LiveReference
from polm_bench.trainers.pair import PairCollator

CRINGE = PairwiseCringe(weight=1.0, candidates=3, threshold=0.0, temperature=10.0)
ASKING = [
    BCO(beta=0.1),
    AOT(beta=0.1, smoothing=0.1),
    AOTUnpaired(beta=0.1, smoothing=0.0),
    DNO(beta=0.1, scale=1.0),
    WPO(beta=0.1),
    CRINGE,
    TDPO1(beta=0.1),
    TDPO2(beta=0.1, alpha=0.5),
    LDDPO(beta=0.1, alpha=0.5),
]


def live(seed: int = 1) -> LiveReference:
    return LiveReference(toy_model(seed).double())


def test_values_of_tokens_are_laid_out_by_sequence():
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0]], dtype=torch.bool)
    values = torch.arange(1.0, 7.0, requires_grad=True)
    found = by_sequence(values, mask)
    assert found.tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    (found * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    assert values.grad.tolist() == [1, 1, 2, 3, 3, 3]


@pytest.mark.parametrize("objective", ASKING, ids=lambda objective: type(objective).__name__)
def test_the_split_of_a_batch_changes_neither_loss_nor_gradient(tmp_path, objective):
    rows = [{**row, "margin": 0.1 * i} for i, row in enumerate(with_reference(pair_rows(8), toy_model(seed=1)))]
    reference = live if objective.live_reference else lambda: None
    whole, one = train(tmp_path, toy_model().double(), rows, [list(range(8))] * 2, objective, reference=reference())
    split = [[0], [1, 2, 3], [4, 5], [6, 7]]
    parts, many = train(
        tmp_path, toy_model().double(), rows, split * 2, objective, accumulation=4, reference=reference()
    )
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    for a, b in zip(one, many, strict=True):
        assert (a - b).abs().max() <= 1e-8 * a.abs().max()


@pytest.mark.parametrize(
    "objective", [DPO(beta=0.1), KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)], ids=["DPO", "KTO"]
)
def test_a_reference_in_memory_is_one_that_was_scored_beforehand(tmp_path, objective):
    rows = with_reference(pair_rows(8), toy_model(seed=1).double())
    bare = [{name: value for name, value in row.items() if name != "reference"} for row in rows]
    scored, one = train(tmp_path, toy_model().double(), rows, [list(range(8))] * 2, objective)
    lived, two = train(tmp_path, toy_model().double(), bare, [list(range(8))] * 2, objective, reference=live())
    assert losses(lived) == pytest.approx(losses(scored), rel=1e-6)
    for a, b in zip(one, two, strict=True):
        assert (a - b).abs().max() <= 1e-6 * a.abs().max()


@pytest.mark.parametrize("objective", [DPO(beta=0.1), TDPO1(beta=0.1)], ids=lambda objective: type(objective).__name__)
def test_a_reference_in_memory_computes_as_exactly_as_the_policy(tmp_path, objective):
    bare = [{name: value for name, value in row.items() if name != "reference"} for row in pair_rows(4)]
    trainer, _ = train(
        tmp_path, toy_model(), bare, [[0, 1, 2, 3]], objective, reference=LiveReference(toy_model()), bf16=True
    )
    assert trainer.state.log_history[0]["reward_margin"] == 0  # the policy is its reference
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-6)


def test_token_objectives_do_not_see_padding():
    rows, policy, reference = pair_rows(3), toy_model().double(), live().model
    objective = TDPO2(beta=0.1, alpha=0.5)
    from polm_bench.trainers.logps import completion_logits

    batch = PairCollator(PAD)(rows)
    wide = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in batch.items() if value.dim() == 2}
    found = []
    for each in (batch, wide):
        mask = each["completion_mask"]
        with torch.no_grad():
            ours, theirs = completion_logits(policy, each), completion_logits(reference, each)
        found.append(by_sequence(objective.token_values(ours, each["input_ids"][mask], theirs), mask))
    torch.testing.assert_close(found[0], found[1])


def test_a_moving_reference_follows_the_policy(tmp_path):
    rows, start = pair_rows(4), toy_model()
    reference = LiveReference(toy_model(), share=0.25, every=2)
    before = start.model.layers[0].self_attn.q_proj.weight.clone()
    train(tmp_path, start, rows, [[0, 1, 2, 3]] * 3, DPO(beta=0.1), reference=reference)
    # Moved after the second step only, and the third one went on alone.
    moved = reference.model.model.layers[0].self_attn.q_proj.weight - before
    assert moved.abs().max() > 0
    again, second = toy_model(), LiveReference(toy_model(), share=1.0, every=2)
    train(tmp_path, again, rows, [[0, 1, 2, 3]] * 2, DPO(beta=0.1), reference=second)
    copied = second.model.model.layers[0].self_attn.q_proj.weight
    assert torch.equal(copied, again.model.layers[0].self_attn.q_proj.weight)
    torch.testing.assert_close(moved, 0.25 * (copied - before), rtol=1e-3, atol=1e-8)


def test_a_resumed_run_goes_on_with_its_moved_reference(tmp_path):
    rows, batches = pair_rows(8), [[0, 1], [2, 3], [4, 5], [6, 7]]

    def follow() -> LiveReference:
        return LiveReference(toy_model(seed=1), share=0.6, every=1)

    straight, _ = train(
        tmp_path, toy_model(), rows, batches, DPO(beta=0.1), reference=follow(), save_strategy="steps", save_steps=2
    )
    resumed, _ = train(
        tmp_path,
        toy_model(seed=3),
        rows,
        batches,
        DPO(beta=0.1),
        reference=follow(),
        resume=str(tmp_path / "checkpoint-2"),
    )
    for mine, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_likelihoods_of_both_completions_are_plotted(tmp_path):
    rows = with_reference(pair_rows(4), toy_model())
    trainer, _ = train(tmp_path, toy_model(), rows, [[0, 1, 2, 3]], DPO(beta=0.1))
    known = torch.tensor([row["reference"] for row in rows]).mean(0).tolist()
    logged = trainer.state.log_history[0]
    assert [logged["logp_chosen"], logged["logp_rejected"]] == pytest.approx(known, rel=1e-5)


def test_pairs_without_a_margin_are_refused_where_it_is_read(tmp_path):
    rows = with_reference(pair_rows(2), toy_model())
    with pytest.raises(ValueError, match="DNO reads 'margin'"):
        train(tmp_path, toy_model(), rows, [[0, 1]], DNO(beta=0.1, scale=1.0))
