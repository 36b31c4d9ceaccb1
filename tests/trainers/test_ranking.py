"""The trainer of listwise objectives: what it scores, and that only the optimiser batch matters, not how it is split."""

from __future__ import annotations

import math

import pytest
import torch
from tests.trainers.test_pair import PAD, Gradients, by_hand, losses, toy_model
from transformers import TrainingArguments

from polm_bench.objectives import PRO, RRHF, LiPO, PlackettLuce
from polm_bench.trainers.logps import sequence_logps
from polm_bench.trainers.ranking import ListCollator, ListTrainer


def list_rows(count: int, answers: int = 3) -> list[dict]:
    """Random prompts with `answers` or one answer less, of 1 to 6 tokens."""
    draw = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (1,), generator=draw))
        return torch.randint(3, 40, (length,), generator=draw).tolist()

    rows = []
    for i in range(count):
        prompt, texts = tokens(2, 5), [tokens(1, 6) for _ in range(answers - i % 2)]
        rows.append(
            {
                "answers": [prompt + text for text in texts],
                "lengths": [len(text) for text in texts],
                "scores": [1 - 0.3 * place for place in range(len(texts))],
            }
        )
    return rows


def with_reference(rows: list[dict], model) -> list[dict]:
    with torch.no_grad():
        found = iter(sequence_logps(model, ListCollator(PAD)(rows)).logps.tolist())
    return [{**row, "reference": [next(found) for _ in row["scores"]]} for row in rows]


def train(tmp_path, model, rows, batches, objective, accumulation=1):
    gradients = Gradients(model, [])
    trainer = ListTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=1,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=1,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            logging_steps=1,
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            save_strategy="no",
        ),
        rows=rows,
        batches=batches,
        objective=objective,
        pad_id=PAD,
        callbacks=[gradients],
    )
    trainer.train()
    return trainer, gradients.seen


def test_the_collator_puts_one_rows_answers_after_anothers():
    rows = [
        {"answers": [[5, 6, 7], [5, 8]], "lengths": [2, 1], "scores": [1.0, 0.0], "reference": [-1.0, -2.0]},
        {"answers": [[4, 3], [4, 7], [4, 9]], "lengths": [1, 1, 1], "scores": [2.0, 1.0, 0.5], "reference": [-3.0] * 3},
    ]
    batch = ListCollator(pad_id=0)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 8, 0], [4, 3, 0], [4, 7, 0], [4, 9, 0]]
    assert batch["completion_mask"].int().tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert batch["scores"].tolist() == [[1.0, 0.0, 0.0], [2.0, 1.0, 0.5]]
    assert batch["there"].tolist() == [[True, True, False], [True, True, True]]
    assert batch["reference"].tolist() == [-1.0, -2.0, -3.0, -3.0, -3.0]


def test_an_answer_without_a_prompt_is_refused():
    with pytest.raises(ValueError, match="nothing to condition on or to score"):
        ListCollator(PAD)([{"answers": [[5, 6]], "lengths": [2], "scores": [1.0]}])


def test_log_probs_are_those_of_each_answer_alone(tmp_path):
    model, rows = toy_model(), list_rows(3)
    trainer, _ = train(tmp_path, toy_model(), rows, [[0, 1, 2]], RRHF(rank_weight=1.0))
    with torch.no_grad():
        policy, _ = trainer.views(model, ListCollator(PAD)(rows))
    for row, found, there in zip(rows, policy.logps.tolist(), policy.mask.tolist()):
        hand = [by_hand(model, ids, length) for ids, length in zip(row["answers"], row["lengths"])]
        assert found[: len(hand)] == pytest.approx(hand, rel=1e-5)
        assert found[len(hand) :] == [0.0] * (3 - len(hand))
        assert there == [True] * len(hand) + [False] * (3 - len(hand))


def test_the_first_plackett_luce_loss_counts_the_orders(tmp_path):
    rows = with_reference(list_rows(4), toy_model())
    trainer, _ = train(tmp_path, toy_model(), rows, [[0, 1, 2, 3]] * 3, PlackettLuce(beta=0.1))
    assert losses(trainer)[0] == pytest.approx((math.log(6) + math.log(2)) / 2, rel=1e-4)
    assert losses(trainer) == sorted(losses(trainer), reverse=True)


@pytest.mark.parametrize(
    "objective",
    [RRHF(rank_weight=1.0), PRO(sft_weight=0.05), LiPO(beta=0.1), PlackettLuce(beta=0.1)],
    ids=lambda objective: type(objective).__name__,
)
def test_the_split_of_a_batch_changes_neither_loss_nor_gradient(tmp_path, objective):
    rows = with_reference(list_rows(6), toy_model(seed=1))
    whole, one = train(tmp_path, toy_model().double(), rows, [list(range(6))] * 2, objective)
    split = [[0], [1, 2, 3], [4, 5]]
    parts, many = train(tmp_path, toy_model().double(), rows, split * 2, objective, accumulation=3)
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    for a, b in zip(one, many, strict=True):
        assert (a - b).abs().max() <= 1e-8 * a.abs().max()


def test_lists_without_the_reference_that_is_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match="LiPO reads 'reference'"):
        train(tmp_path, toy_model(), list_rows(2), [[0, 1]], LiPO(beta=0.1))
