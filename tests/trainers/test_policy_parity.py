"""Losses and advantages against trl's on the same batch."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from polm_bench.objectives.advantages import GroupRelative, LeaveOneOut, Scored
from polm_bench.objectives.ppo import Clipped, ClippedWeight, TokenLogps
from polm_bench.objectives.reward import BradleyTerry

pytestmark = pytest.mark.slow

ASKED = [
    ([5, 6, 7, 8], [9, 10, 11]),
    ([5, 6, 7, 8], [12, 13]),
    ([20, 21], [22, 23, 24, 25, 26]),
    ([20, 21], [27]),
]
ADVANTAGES = tensor([1.0, -1.0, 0.5, -0.5])
QUIET = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "per_device_train_batch_size": 4,
    "max_completion_length": 8,
    "temperature": 1.0,
}


def clipped(ratio, average, kl=0.0, high=0.2):
    return Clipped(average=average, kl=kl, entropy=0.0, low=0.2, high=high, ratio=ratio)


CASES = {
    # trl weighs the KL term by the importance ratio since DeepSeek-V3.2; GRPO's paper (Eq. 4) does not.
    "grpo": (
        {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False},
        clipped("token", "sequence", kl=0.04),
    ),
    "dr_grpo": ({"loss_type": "dr_grpo", "beta": 0.0}, clipped("token", "length")),
    "dapo": ({"loss_type": "dapo", "beta": 0.0, "epsilon_high": 0.28}, clipped("token", "token", high=0.28)),
    "gspo": (
        {"loss_type": "grpo", "beta": 0.0, "importance_sampling_level": "sequence"},
        clipped("sequence", "sequence"),
    ),
    "cispo": (
        {"loss_type": "cispo", "beta": 0.0, "epsilon_high": 5.0},
        ClippedWeight(average="token", kl=0.0, entropy=0.0, high=5.0),
    ),
}


@pytest.fixture(scope="module")
def model_of(toy_model):
    from polm_bench.models.load import load_model

    return lambda: load_model(toy_model, "float32", "cpu")


def trainer_of(kind, config, model, toy_model, reward):
    import trl
    from datasets import Dataset

    from polm_bench.models.load import load_tokenizer

    made = getattr(trl, f"{kind}Trainer")(
        model=model,
        reward_funcs=reward,
        args=getattr(trl, f"{kind}Config")(**QUIET, **config),
        train_dataset=Dataset.from_list([{"prompt": "a b c"}] * 4),
        processing_class=load_tokenizer(toy_model),
    )
    made.current_gradient_accumulation_steps = 1
    return made


def padded(pad):
    """The batch as trl has it: prompts padded left, answers right."""
    widest, longest = max(len(p) for p, _ in ASKED), max(len(a) for _, a in ASKED)
    return {
        "prompt_ids": tensor([[pad] * (widest - len(p)) + p for p, _ in ASKED]),
        "prompt_mask": tensor([[0] * (widest - len(p)) + [1] * len(p) for p, _ in ASKED]),
        "completion_ids": tensor([a + [pad] * (longest - len(a)) for _, a in ASKED]),
        "completion_mask": tensor([[1] * len(a) + [0] * (longest - len(a)) for _, a in ASKED]),
    }


def others(mask):
    """Old and reference log-probs that are not the policy's."""
    generator = torch.Generator().manual_seed(1)
    return [(-7.5 + 0.3 * torch.randn(mask.shape, generator=generator)) * mask for _ in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_trls_grpo(name, model_of, toy_model, tmp_path):
    from polm_bench.trainers.tokens import collate, token_view

    config, loss = CASES[name]
    theirs, ours = model_of(), model_of()
    trainer = trainer_of(
        "GRPO", config | {"num_generations": 2, "output_dir": str(tmp_path)}, theirs, toy_model, lambda **_: [0.0] * 4
    )
    batch = collate(ASKED, 0, "cpu")
    old, reference = others(batch.mask)
    inputs = padded(0) | {
        "advantages": ADVANTAGES,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": batch.mask.sum(),
    }
    expected = trainer._compute_loss(trainer.model, inputs)
    expected.backward()

    view = token_view(ours, batch, 1.0)
    logps = TokenLogps(view.logps, old, reference, None, batch.mask)
    found = (loss.costs(logps, ADVANTAGES[:, None] * batch.mask) * loss.weights(batch.mask, 8)).sum()
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_the_loss_is_that_of_trls_rloo(model_of, toy_model, tmp_path):
    from polm_bench.trainers.tokens import collate, token_view

    trainer = trainer_of(
        "RLOO", {"num_generations": 2, "output_dir": str(tmp_path)}, model_of(), toy_model, lambda **_: [0.0] * 4
    )
    batch = collate(ASKED, 0, "cpu")
    view = token_view(model_of(), batch, 1.0)
    old = view.logps.detach() + 0.05 * batch.mask
    inputs = padded(0) | {"advantages": ADVANTAGES, "old_logps": old.sum(1)}
    expected = trainer._compute_loss(trainer.model, inputs)
    loss = clipped("answer", "sequence")
    logps = TokenLogps(view.logps, old, None, None, batch.mask)
    found = (loss.costs(logps, ADVANTAGES[:, None] * batch.mask) * loss.weights(batch.mask, 8)).sum()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "config", "estimate"),
    [
        ("GRPO", {"scale_rewards": "group", "beta": 0.0}, GroupRelative(scale="group")),
        ("GRPO", {"scale_rewards": "none", "beta": 0.0}, GroupRelative(scale="none")),
        ("GRPO", {"scale_rewards": "batch", "beta": 0.0}, GroupRelative(scale="batch")),
        ("RLOO", {"beta": 0.0}, LeaveOneOut()),
    ],
)
def test_advantages_are_trls(kind, config, estimate, model_of, toy_model, tmp_path):
    rewards = [0.0, 1.0, 3.0, 5.5]
    trainer = trainer_of(
        kind,
        config | {"num_generations": 2, "output_dir": str(tmp_path)},
        model_of(),
        toy_model,
        lambda **_: rewards,
    )
    made = trainer._generate_and_score_completions([{"prompt": "a b c"}] * 2 + [{"prompt": "d e"}] * 2)
    given = Scored(tensor(rewards), torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), 2)
    torch.testing.assert_close(estimate(given)[:, 0], made["advantages"], atol=1e-5, rtol=1e-5)


def test_the_reward_loss_is_trls(toy_model, tmp_path):
    import trl
    from datasets import Dataset

    from polm_bench.models.head import answer_rewards, with_fresh_head
    from polm_bench.models.load import load_tokenizer
    from polm_bench.trainers.reward import JudgedPairCollator

    torch.manual_seed(0)
    model = with_fresh_head(toy_model, "cpu")
    rows = [
        {"first": p + a, "first_len": len(a), "second": p + b, "second_len": len(b), "share": 1.0}
        for (p, a), (_, b) in ((ASKED[0], ASKED[1]), (ASKED[2], ASKED[3]))
    ]
    tokenizer = load_tokenizer(toy_model)
    batch = JudgedPairCollator(tokenizer.pad_token_id)(rows)
    first, second = answer_rewards(model, batch["input_ids"], batch["attention_mask"]).chunk(2)
    config = {k: v for k, v in QUIET.items() if k not in ("max_completion_length", "temperature")}
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(**config, output_dir=str(tmp_path), center_rewards_coefficient=0.01),
        train_dataset=Dataset.from_list([{"chosen": "a b", "rejected": "a c"}] * 4),
        processing_class=tokenizer,
    )
    expected = trainer.compute_loss(model, {name: batch[name] for name in ("input_ids", "attention_mask")})
    found = BradleyTerry(centre=0.01, margin=0.0)(first, second, batch["share"], None).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
