"""The list trainer against trl's trainer of triples, on the same text and model."""

from __future__ import annotations

import pytest
from datasets import Dataset
from tests.trainers.test_pair_parity import BATCH, PAIRS, POLICY, loss_and_gradient, model, settings, tokenizer
from transformers import TrainingArguments

from polm_bench.objectives import DPO, IPO, RRHF, TPO, HingeDPO, SimPO
from polm_bench.trainers.ranking import ListTrainer

pytestmark = pytest.mark.slow  # importing trl takes 12 s

__all__ = ["tokenizer"]

TRIPLES = [
    (prompt, f" That makes {a}, of course.", good, bad) for a, (prompt, good, bad) in enumerate(PAIRS[:BATCH], 31)
]
SAME = [
    (DPO(beta=0.1), {"loss_type": "sigmoid", "beta": 0.1}),
    (HingeDPO(beta=0.1), {"loss_type": "hinge", "beta": 0.1}),
    (IPO(tau=0.1, per_token=True), {"loss_type": "ipo", "beta": 0.1}),
    (SimPO(beta=2.0, gamma=1.6), {"loss_type": "tpo-l", "beta": 2.0, "tpo_l_gamma": 1.6}),
]


def lists(tokenizer) -> list[dict]:
    rows = []
    for prompt, *texts in TRIPLES:
        start = tokenizer(prompt)["input_ids"]
        answers = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
        rows.append(
            {"answers": [start + ids for ids in answers], "lengths": list(map(len, answers)), "scores": [3.0, 2.0, 1.0]}
        )
    return rows


@pytest.fixture(scope="module")
def trainers(tokenizer, tmp_path_factory):
    """trl's TPOTrainer and ours, and the batch of each, with the same policy."""
    import os

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.tpo import TPOConfig, TPOTrainer

    folder = tmp_path_factory.mktemp("triples")
    theirs = TPOTrainer(
        model=model(seed=POLICY),
        args=TPOConfig(tpo_alpha=0.5, **settings(folder)),
        train_dataset=Dataset.from_list(
            [dict(zip(("prompt", "reference", "chosen", "rejected"), row)) for row in TRIPLES]
        ),
        processing_class=tokenizer,
    )
    ours = ListTrainer(
        model=model(seed=POLICY),
        args=TrainingArguments(**settings(folder)),
        rows=lists(tokenizer),
        batches=[list(range(BATCH))],
        objective=RRHF(rank_weight=1.0),
        pad_id=tokenizer.pad_token_id,
    )
    for trainer in (theirs, ours):
        trainer.model.double()
    return (theirs, next(iter(theirs.get_train_dataloader()))), (ours, next(iter(ours.get_train_dataloader())))


@pytest.mark.parametrize(("pair", "given"), SAME, ids=lambda value: str(value))
def test_a_preference_in_a_triple_is_trls(trainers, monkeypatch, pair, given):
    (theirs, their_batch), (ours, our_batch) = trainers
    for name, value in given.items():
        monkeypatch.setattr(theirs, name, value, raising=False)  # the margin is there for TPO-L only
    expected, slope = loss_and_gradient(theirs.model, theirs.compute_loss(theirs.model, dict(their_batch)))
    monkeypatch.setattr(ours, "objective", TPO(pair=pair, sft_weight=0.5))
    found, gradient = loss_and_gradient(
        ours.model, ours.compute_loss(ours.model, dict(our_batch), num_items_in_batch=BATCH)
    )
    assert found == pytest.approx(expected, rel=1e-5)
    assert (gradient - slope).norm() < 1e-5 * slope.norm()
    assert slope.norm() > 0
