"""The pair trainer and its objectives against trl's trainers, on the same text, model and optimiser."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback, TrainingArguments

from polm_bench.objectives import (
    AOT,
    BCO,
    CPO,
    DPO,
    EXO,
    IPO,
    KTO,
    LDDPO,
    NCA,
    ORPO,
    SPPO,
    UNA,
    WPO,
    AlphaDPO,
    AlphaPO,
    AOTUnpaired,
    APODown,
    APOZero,
    APOZeroUnpaired,
    ChosenLikelihood,
    DiscoPOP,
    ForwardKLDPO,
    HingeDPO,
    JensenShannonDPO,
    Mixture,
    NormalizedDPO,
    RobustDPO,
    SimPO,
    SLiC,
    Term,
)
from polm_bench.trainers.objective import LiveReference
from polm_bench.trainers.pair import PairCollator, PairTrainer, sequence_logps

pytestmark = pytest.mark.slow  # importing trl takes 12 s

BATCH = 4
STEPS = 5
# Seeds. This policy gives the texts more than this reference does, so that KTO's KL estimate is positive.
POLICY, REFERENCE = 1, 0
PAIRS = [
    (f"What is {a} + {b}?", f" It is {a + b}.", f" I think that it is {a * b + 1}, {who}.")
    for a, b, who in zip(range(1, 21), range(30, 10, -1), ["sir", "madam", "my old friend", "you"] * 5)
]


def model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=256,
        pad_token_id=257,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>")


class Gradients(TrainerCallback):
    """Keeps the gradient of the first layer's query matrix at every step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.seen.append(model.model.layers[0].self_attn.q_proj.weight.grad.clone())


def settings(tmp_path) -> dict:
    """Arguments given to both trainers."""
    return {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": BATCH,
        "max_steps": STEPS,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def run(trainer) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and gradients of the steps."""
    gradients = Gradients()
    trainer.add_callback(gradients)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], gradients.seen


def ours(tmp_path, tokenizer, objective, texts, labels=None, reference=None):
    """`texts`: prompt, first and second completion of each row, in training order."""
    rows = []
    for prompt, *completions in texts:
        start = tokenizer(prompt)["input_ids"]
        first, second = ([*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in completions)
        rows.append(
            {"first": start + first, "first_len": len(first), "second": start + second, "second_len": len(second)}
        )
    if reference is None:
        with torch.no_grad():
            known = (
                sequence_logps(model(seed=REFERENCE), PairCollator(tokenizer.pad_token_id)(rows)).logps.view(2, -1).T
            )
        rows = [{**row, "reference": tuple(pair)} for row, pair in zip(rows, known.tolist())]
    if labels is not None:
        rows = [{**row, "label": label} for row, label in zip(rows, labels)]
    return PairTrainer(
        model=model(seed=POLICY),
        args=TrainingArguments(**settings(tmp_path)),
        rows=rows,
        batches=[list(range(at, at + BATCH)) for at in range(0, len(rows), BATCH)],
        objective=objective,
        pad_id=tokenizer.pad_token_id,
        reference=reference,
    )


def assert_same(found, expected, close=1e-5):
    assert len(found[0]) == len(expected[0]) == STEPS
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert len({round(loss, 4) for loss in found[0]}) == STEPS, "the losses should differ, or nothing is shown"
    for mine, theirs in zip(found[1], expected[1], strict=True):
        assert (mine - theirs).norm() < close * theirs.norm()


def test_dpo_follows_trl_step_by_step(tmp_path, tokenizer):
    from trl import DPOConfig, DPOTrainer

    theirs = DPOTrainer(
        model=model(seed=POLICY),
        ref_model=model(seed=REFERENCE),
        args=DPOConfig(beta=0.1, loss_type="sigmoid", **settings(tmp_path)),
        train_dataset=Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS]),
        processing_class=tokenizer,
    )
    assert_same(run(ours(tmp_path, tokenizer, DPO(beta=0.1), PAIRS)), run(theirs))


def test_simpo_follows_trl_step_by_step(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    theirs = CPOTrainer(
        model=model(seed=POLICY),
        args=CPOConfig(loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=1.0, **settings(tmp_path)),
        train_dataset=Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS]),
        processing_class=tokenizer,
    )
    assert_same(run(ours(tmp_path, tokenizer, SimPO(beta=2.0, gamma=1.0), PAIRS)), run(theirs))


@pytest.mark.parametrize("kind", ["kto", "apo_zero_unpaired"])
def test_losses_on_single_completions_follow_trl_step_by_step(tmp_path, tokenizer, kind):
    from trl import KTOConfig, KTOTrainer

    labels = [i % 3 != 0 for i in range(len(PAIRS))]
    texts = [(prompt, good if label else bad) for label, (prompt, good, bad) in zip(labels, PAIRS)]
    theirs = KTOTrainer(
        model=model(seed=POLICY),
        ref_model=model(seed=REFERENCE),
        args=KTOConfig(loss_type=kind, beta=0.1, desirable_weight=1.0, undesirable_weight=1.5, **settings(tmp_path)),
        train_dataset=Dataset.from_list(
            [{"prompt": prompt, "completion": text, "label": label} for label, (prompt, text) in zip(labels, texts)]
        ),
        processing_class=tokenizer,
    )
    # As in trl, each prompt's mismatched completion is that of the row before it in the batch, going round.
    before = [at - 1 if at % BATCH else at + BATCH - 1 for at in range(len(texts))]
    rows = [(prompt, text, texts[at][1]) for (prompt, text), at in zip(texts, before)]
    made = {"kto": KTO, "apo_zero_unpaired": APOZeroUnpaired}[kind]
    mine = ours(tmp_path, tokenizer, made(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5), rows, labels)
    if kind == "apo_zero_unpaired":
        assert_same(run(mine), run(theirs), close=2e-5)  # in float32; the two sides of a batch nearly cancel
        return
    assert_same(run(mine), run(theirs))
    kl = [entry["kl"] for entry in mine.state.log_history if "kl" in entry]
    assert kl == pytest.approx([entry["kl"] for entry in theirs.state.log_history if "kl" in entry], rel=1e-5)
    assert min(kl) > 0, "a reference point of 0 would show nothing"


class BCOAroundZero(BCO):
    """With trl's threshold, which is 0."""

    def shift(self, policy, reference):
        return torch.zeros(())


# Our objective, and the settings of trl's DPOTrainer that make it the same.
SAME = [
    (DPO(beta=0.1), {"loss_types": ["sigmoid"]}),
    (HingeDPO(beta=0.1), {"loss_types": ["hinge"]}),
    (IPO(tau=0.1, per_token=True), {"loss_types": ["ipo"]}),
    (EXO(beta=0.1, smoothing=0.01), {"loss_types": ["exo_pair"], "label_smoothing": 0.01}),
    (NCA(beta=0.1), {"loss_types": ["nca_pair"]}),
    (RobustDPO(beta=0.1, flipped=0.2), {"loss_types": ["robust"], "label_smoothing": 0.2}),
    (BCOAroundZero(beta=0.1), {"loss_types": ["bco_pair"]}),
    (UNA(beta=0.1, distance="bce"), {"loss_types": ["bco_pair"]}),
    (SPPO(eta=10.0), {"loss_types": ["sppo_hard"]}),
    (AOT(beta=0.1, smoothing=0.1), {"loss_types": ["aot"], "label_smoothing": 0.1}),
    (AOTUnpaired(beta=0.1, smoothing=0.1), {"loss_types": ["aot_unpaired"], "label_smoothing": 0.1}),
    (APOZero(beta=0.1), {"loss_types": ["apo_zero"]}),
    (APODown(beta=0.1), {"loss_types": ["apo_down"]}),
    (DiscoPOP(beta=0.1, tau=0.3), {"loss_types": ["discopop"], "discopop_tau": 0.3}),
    (NormalizedDPO(beta=0.1), {"loss_types": ["sigmoid_norm"]}),
    (LDDPO(beta=0.1, alpha=0.3), {"ld_alpha": 0.3}),
    (WPO(beta=0.1), {"use_weighting": True}),
    (ForwardKLDPO(beta=0.1), {"f_divergence_type": "forward_kl"}),
    (JensenShannonDPO(beta=0.1), {"f_divergence_type": "js_divergence"}),
    (ChosenLikelihood(), {"loss_types": ["sft"]}),
    (
        Mixture((Term(DPO(beta=0.1), 0.8), Term(BCOAroundZero(beta=0.1), 0.2), Term(ChosenLikelihood(), 1.0))),
        {"loss_types": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    ),
    (AlphaDPO(beta=0.1, alpha=0.3), {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7}),
]
PLAIN = {"loss_types": ["sigmoid"], "label_smoothing": 0.0, "ld_alpha": None, "use_weighting": False}
CPO_SAME = [
    (
        AlphaPO(beta=2.0, gamma=1.0, alpha=0.25),
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "alpha": 0.25, "cpo_alpha": 0.0},
        1.0,
    ),
    (
        Mixture((Term(SimPO(beta=2.0, gamma=1.0), 1.0), Term(ChosenLikelihood(), 0.05))),
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "alpha": 0.0, "cpo_alpha": 0.05},
        1.0,
    ),
    (CPO(beta=0.1, sft_weight=0.5), {"loss_type": "sigmoid", "beta": 0.1, "cpo_alpha": 0.5}, 1.0),
    (SLiC(delta=50.0, sft_weight=10.0), {"loss_type": "hinge", "beta": 1 / 50, "cpo_alpha": 10 / 50}, 50.0),
]


def loss_and_gradient(policy, loss) -> tuple[float, torch.Tensor]:
    policy.zero_grad()
    loss.backward()
    return loss.item(), policy.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.fixture(scope="module")
def trainers(tokenizer, tmp_path_factory):
    """trl's DPOTrainer and CPOTrainer, ours, and a batch of each; all with the same policy and reference."""
    import os

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl import DPOConfig, DPOTrainer
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    folder = tmp_path_factory.mktemp("same")
    texts = [dict(zip(("prompt", "chosen", "rejected"), pair)) for pair in PAIRS[:BATCH]]
    made = {
        "dpo": DPOTrainer(
            model=model(seed=POLICY),
            ref_model=model(seed=REFERENCE),
            args=DPOConfig(beta=0.1, use_weighting=True, **settings(folder)),  # or the weights were not computed
            train_dataset=Dataset.from_list(texts),
            processing_class=tokenizer,
        ),
        "cpo": CPOTrainer(
            model=model(seed=POLICY),
            args=CPOConfig(**settings(folder)),
            train_dataset=Dataset.from_list(texts),
            processing_class=tokenizer,
        ),
    }
    mine = ours(folder, tokenizer, DPO(beta=0.1), PAIRS[:BATCH], reference=LiveReference(model(seed=REFERENCE)))
    made["ours"] = mine
    for each in (*(trainer.model for trainer in made.values()), made["dpo"].ref_model, mine.reference):
        each.double()
    return made, {name: next(iter(trainer.get_train_dataloader())) for name, trainer in made.items()}


def measured(trainers, objective) -> tuple[float, torch.Tensor]:
    made, batches = trainers
    trainer, batch = made["ours"], dict(batches["ours"])
    trainer.objective = objective
    trainer.look_ahead([batch])
    return loss_and_gradient(trainer.model, trainer.compute_loss(trainer.model, batch, num_items_in_batch=BATCH))


@pytest.mark.parametrize(("objective", "theirs"), SAME, ids=lambda value: str(value))
def test_an_objective_is_trls(trainers, monkeypatch, objective, theirs):
    trainer, batch = trainers[0]["dpo"], trainers[1]["dpo"]
    divergence = {"f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5}
    beta = 0.1  # of trl: also IPO's tau, and the inverse of SPPO's eta
    for name, value in {**PLAIN, **divergence, "loss_weights": [1.0], "beta": beta, **theirs}.items():
        monkeypatch.setattr(trainer.args if name == "discopop_tau" else trainer, name, value)
    expected, slope = loss_and_gradient(trainer.model, trainer.compute_loss(trainer.model, dict(batch)))
    found, gradient = measured(trainers, objective)
    assert found == pytest.approx(expected, rel=1e-5)
    assert (
        gradient - slope
    ).norm() < 2e-5 * slope.norm()  # trl takes log-probs in float32, and those of a pair nearly cancel
    assert slope.norm() > 0


@pytest.mark.parametrize(("objective", "theirs", "scale"), CPO_SAME, ids=lambda value: str(value))
def test_an_objective_without_a_reference_is_trls(trainers, monkeypatch, objective, theirs, scale):
    trainer, batch = trainers[0]["cpo"], trainers[1]["cpo"]
    for name, value in theirs.items():
        monkeypatch.setattr(trainer, name, value, raising=False)  # SimPO's margin is there for SimPO only
    loss, _ = trainer.get_batch_loss_metrics(trainer.model, batch)
    expected, slope = loss_and_gradient(trainer.model, loss)
    found, gradient = measured(trainers, objective)
    assert found == pytest.approx(scale * expected, rel=1e-5)
    assert (gradient - scale * slope).norm() < 1e-5 * scale * slope.norm()


def test_orpos_odds_ratio_is_trls(monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from types import SimpleNamespace

    from trl.experimental.orpo import ORPOTrainer

    from polm_bench.objectives import PairLogps

    chosen, rejected = (torch.tensor(row, requires_grad=True) for row in ([-4.0, -0.3], [-9.0, -0.6]))
    lengths = torch.tensor([2, 3])
    stub = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    theirs = -ORPOTrainer.odds_ratio_loss(stub, chosen / lengths, rejected / lengths)[0]
    expected = torch.autograd.grad(theirs.sum(), (chosen, rejected))
    mine = ORPO(weight=0.3)(PairLogps(chosen, rejected, lengths, lengths), None) + chosen / lengths
    found = torch.autograd.grad(mine.sum(), (chosen, rejected))
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
