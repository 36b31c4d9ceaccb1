"""The pair trainer: what it scores, and that only the optimiser batch matters, not how it is split."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, TrainingArguments

from polm_bench.objectives import DPO, KTO, SimPO
from polm_bench.trainers.pair import PairCollator, PairTrainer, half, sequence_logps

PAD = 0


def toy_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config)


def pair_rows(count: int, seed: int = 0) -> list[dict]:
    """Random pairs with prompts of 2 to 6 and completions of 1 to 9 tokens, every second one labelled desirable."""
    draw = torch.Generator().manual_seed(seed)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high + 1, (1,), generator=draw))
        return torch.randint(3, 40, (length,), generator=draw).tolist()

    rows = []
    for i in range(count):
        prompt, first, second = tokens(2, 6), tokens(1, 9), tokens(1, 9)
        row = {"first": prompt + first, "first_len": len(first), "second": prompt + second, "second_len": len(second)}
        rows.append({**row, "label": i % 2 == 0})
    return rows


@torch.no_grad()
def with_reference(rows: list[dict], model: nn.Module) -> list[dict]:
    first, second = sequence_logps(model, PairCollator(PAD)(rows)).logps.chunk(2)
    return [{**row, "reference": (a, b)} for row, a, b in zip(rows, first.tolist(), second.tolist())]


def by_hand(model: nn.Module, ids: list[int], completion: int) -> float:
    """Log-prob of one completion, token by token, without padding."""
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(logps[at - 1, ids[at]].item() for at in range(len(ids) - completion, len(ids)))


@dataclass
class Gradients(TrainerCallback):
    """Keeps the gradient of one weight matrix at every step, before the optimiser uses it."""

    model: nn.Module
    seen: list

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        name = next(name for name, value in self.model.named_parameters() if "q_proj" in name and value.requires_grad)
        self.seen.append(self.model.get_parameter(name).grad.clone())


def train(
    tmp_path, model, rows, batches, objective, accumulation=1, resume=None, reference=None, shared_prompt=False, **args
):
    """Trains, and gives the trainer and the gradients of its steps."""
    gradients = Gradients(model, [])
    trainer = PairTrainer(
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
            logging_nan_inf_filter=False,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            **{"save_strategy": "no", "bf16": False, **args},
        ),
        rows=rows,
        batches=batches,
        objective=objective,
        pad_id=PAD,
        reference=reference,
        shared_prompt=shared_prompt,
        callbacks=[gradients],
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, gradients.seen


def losses(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_collator_puts_first_before_second_and_pads_to_the_right():
    rows = [
        {"first": [5, 6, 7], "first_len": 1, "second": [5, 6, 8, 9], "second_len": 2, "reference": (-1.0, -2.0)},
        {"first": [4, 3], "first_len": 1, "second": [4, 7], "second_len": 1, "reference": (-3.0, -4.0)},
    ]
    batch = PairCollator(pad_id=0)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0], [4, 3, 0, 0], [5, 6, 8, 9], [4, 7, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["completion_mask"].int().tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert batch["reference"].tolist() == [-1.0, -3.0, -2.0, -4.0]
    assert "label" not in batch
    assert half(batch, 0)["input_ids"].tolist() == [[5, 6, 7], [4, 3, 0]]


@pytest.mark.parametrize("length", [0, 3])
def test_a_sequence_without_prompt_or_completion_is_refused(length):
    with pytest.raises(ValueError, match="nothing to condition on or to score"):
        PairCollator(PAD)([{"first": [5, 6, 7], "first_len": length, "second": [5, 6], "second_len": 1}])


def test_log_probs_are_those_of_each_sequence_alone():
    model, rows = toy_model(), pair_rows(5)
    found = sequence_logps(model, PairCollator(PAD)(rows))
    hand = [by_hand(model, row["first"], row["first_len"]) for row in rows]
    hand += [by_hand(model, row["second"], row["second_len"]) for row in rows]
    assert found.logps.tolist() == pytest.approx(hand, rel=1e-5)
    assert found.lengths.tolist() == [row["first_len"] for row in rows] + [row["second_len"] for row in rows]


def test_padding_changes_nothing():
    model, rows = toy_model(), pair_rows(3)
    batch = PairCollator(PAD)(rows)
    wider = {name: nn.functional.pad(values, (0, 7)) for name, values in batch.items() if values.dim() == 2}
    other = {**wider, "input_ids": wider["input_ids"].masked_fill(wider["attention_mask"] == 0, 17)}
    alone = sequence_logps(model, batch).logps
    for padded in wider, other:
        torch.testing.assert_close(sequence_logps(model, padded).logps, alone, rtol=1e-5, atol=1e-5)


def test_scoring_leaves_no_hook_behind_even_after_an_error():
    model, batch = toy_model(), PairCollator(PAD)(pair_rows(2))
    sequence_logps(model, batch)
    with pytest.raises(IndexError):
        sequence_logps(model, {**batch, "input_ids": batch["input_ids"] + 100})
    assert not model.lm_head._forward_pre_hooks


def test_a_soft_prompt_is_not_scored():
    tuned = get_peft_model(toy_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    row = pair_rows(1)[0]
    scored = sequence_logps(tuned, PairCollator(PAD)([row])).logps
    with torch.no_grad():
        logps = tuned(input_ids=torch.tensor([row["first"]])).logits[0, 3:].log_softmax(-1)
    start, end = len(row["first"]) - row["first_len"], len(row["first"])
    assert scored[0].item() == pytest.approx(
        sum(logps[at - 1, row["first"][at]].item() for at in range(start, end)), rel=1e-5
    )


def test_the_first_dpo_loss_of_a_policy_that_is_its_reference_is_log_2(tmp_path):
    model = toy_model()
    trainer, _ = train(tmp_path, model, with_reference(pair_rows(4), model), [[0, 1, 2, 3]] * 3, DPO(beta=0.1))
    assert trainer.state.log_history[0]["loss"] == pytest.approx(0.693147, rel=1e-4)
    assert losses(trainer) == sorted(losses(trainer), reverse=True)
    assert trainer.state.log_history[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert trainer.state.log_history[2]["reward_accuracy"] == 1


@pytest.mark.parametrize(
    "objective",
    [DPO(beta=0.1), SimPO(beta=2.0, gamma=0.5), KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)],
    ids=lambda objective: type(objective).__name__,
)
@pytest.mark.parametrize(
    "split", [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0], [1, 2, 3], [4, 5], [6, 7]]], ids=["4x2", "uneven"]
)
def test_the_split_of_a_batch_changes_neither_loss_nor_gradient(tmp_path, objective, split):
    # Another model is the reference, so that no ratio is 0. In float64, so that rounding is no excuse.
    rows = with_reference(pair_rows(8), toy_model(seed=1))
    whole, one = train(tmp_path, toy_model().double(), rows, [list(range(8))] * 2, objective)
    parts, many = train(tmp_path, toy_model().double(), rows, split * 2, objective, accumulation=len(split))
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-6)
    for a, b in zip(one, many, strict=True):
        assert (a - b).abs().max() <= 1e-9 * a.abs().max()
    logged = [
        {k: v for k, v in entry.items() if k.startswith(("reward", "kl"))} for entry in whole.state.log_history[:2]
    ]
    for entry, other in zip(logged, parts.state.log_history[:2]):
        assert entry
        assert {name: other[name] for name in entry} == pytest.approx(entry, rel=1e-4, abs=1e-5)


def test_kto_takes_its_reference_point_as_a_number(tmp_path):
    # Were it not, this gradient would hold the mismatched completions' share.
    rows = with_reference(pair_rows(4), toy_model(seed=1))
    objective = KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
    trainer, (found,) = train(tmp_path, toy_model(), rows, [[0, 1, 2, 3]], objective)
    fresh, batch = toy_model(), PairCollator(PAD)(rows)
    first, second = sequence_logps(fresh, batch).logps.chunk(2)
    ours, theirs = batch["reference"].chunk(2)
    point = max(0.0, (second - theirs).mean().item())
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    (1 - torch.sigmoid(0.1 * signs * (first - ours - point))).mean().backward()
    assert point > 0
    assert trainer.state.log_history[0]["kl"] == pytest.approx(point, rel=1e-5)
    torch.testing.assert_close(found, fresh.model.layers[0].self_attn.q_proj.weight.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "objective",
    [SimPO(beta=2.0, gamma=0.5), KTO(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)],
    ids=lambda objective: type(objective).__name__,
)
def test_a_resumed_run_ends_with_the_same_weights_and_curve(tmp_path, objective):
    rows = with_reference(pair_rows(8), toy_model(seed=1))
    batches = [[0, 1], [2, 3], [4, 5], [6, 7]] * 2
    straight, _ = train(
        tmp_path, toy_model(), rows, batches, objective, accumulation=2, save_strategy="steps", save_steps=2
    )
    resumed, _ = train(
        tmp_path, toy_model(seed=3), rows, batches, objective, accumulation=2, resume=str(tmp_path / "checkpoint-2")
    )
    for mine, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert resumed.state.log_history[:4] == straight.state.log_history[:4]


def test_a_lora_policy_trains_only_its_adapter(tmp_path):
    base = toy_model()
    rows = with_reference(pair_rows(4), base)
    before = base.model.layers[0].self_attn.q_proj.weight.clone()
    policy = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "lm_head"]))
    trainer, _ = train(tmp_path, policy, rows, [[0, 1, 2, 3]] * 3, DPO(beta=0.1))
    assert losses(trainer)[0] == pytest.approx(0.693147, rel=1e-4)
    assert losses(trainer)[2] < losses(trainer)[0]
    assert torch.equal(policy.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight, before)


@pytest.mark.parametrize(
    ("objective", "lost"),
    [(DPO(beta=0.1), "reference"), (KTO(beta=0.1, desirable_weight=1, undesirable_weight=1), "label")],
)
def test_rows_that_lack_what_the_objective_reads_are_refused(tmp_path, objective, lost):
    rows = [{**row, "reference": (-1.0, -1.0)} for row in pair_rows(3)]
    del rows[1][lost]
    with pytest.raises(ValueError, match=f"reads '{lost}', which 1 rows lack, first row 1"):
        train(tmp_path, toy_model(), rows, [[0, 1, 2]], objective)
