"""One side of the comparison of preference trainers: `python -m polm_bench.bench.side JSON` trains some steps and writes what they took."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from polm_bench.bench.preference import LENGTHS, Json, Lengths, Task
from polm_bench.budget import Spend
from polm_bench.objectives import DPO
from polm_bench.paths import PACKAGE
from polm_bench.probes.memory import peak_host_bytes, reset_peaks
from polm_bench.stages.pairs import pair_schedule, score_pairs
from polm_bench.trainers.pair import PairCollator, PairRow, PairTrainer

BETA = 0.1
PAD, FIRST_TOKEN = 0, 10
DRAWN = 128  # pairs from which batches are made: what is sorted by length together
NANO = PACKAGE / "assets" / "nano"
SHAPES: dict[str, Json] = {
    # HuggingFaceTB/SmolLM2-135M, config.json; the weights are random, on which no speed depends
    "smollm2_135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 512,
        "tie_word_embeddings": True,
    },
}


def make_model(name: str, seed: int) -> PreTrainedModel:
    """The model of a side, equal in every process."""
    if name == "nano":
        from polm_bench.models.load import load_model

        return load_model(NANO, "float32")
    torch.manual_seed(seed)
    config = LlamaConfig(**SHAPES[name], pad_token_id=PAD, bos_token_id=1, eos_token_id=2, attn_implementation="sdpa")
    return LlamaForCausalLM(config)


def make_rows(lengths: Lengths, vocabulary: int, seed: int) -> list[PairRow]:
    """Pairs of random tokens."""
    draw = np.random.default_rng(seed)

    def tokens(spread: tuple[int, int, int]) -> list[int]:
        count = round(draw.triangular(*spread))
        found: list[int] = draw.integers(FIRST_TOKEN, vocabulary, count).tolist()
        return found

    rows: list[PairRow] = []
    for _ in range(DRAWN):
        prompt, first, second = tokens(lengths.prompt), tokens(lengths.completion), tokens(lengths.completion)
        rows.append(
            {
                "first": prompt + first,
                "first_len": len(first),
                "second": prompt + second,
                "second_len": len(second),
            }
        )
    return rows


class Clock(TrainerCallback):
    """Seconds of the timed steps, and of their parts."""

    def __init__(self, warm: int) -> None:
        self.warm = warm
        self.parts = dict.fromkeys(("data", "forward", "reference", "backward", "optimizer"), 0.0)
        self.started = self.total = 0.0
        self.cpu_started = self.cpu = 0.0  # of all threads

    def watch(self, owner: Any, name: str, part: str, inside: str | None = None) -> None:
        """Add the time of a method's calls to a part, and take it off the part that it is called inside."""
        called = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return called(*args, **kwargs)
            finally:
                took = time.perf_counter() - started
                self.parts[part] += took
                if inside is not None:
                    self.parts[inside] -= took

        setattr(owner, name, timed)

    def follow(self, trainer: Trainer) -> None:
        self.watch(trainer, "get_batch_samples", "data")
        self.watch(trainer, "compute_loss", "forward")
        self.watch(trainer.accelerator, "backward", "backward")
        self.watch(trainer.accelerator, "clip_grad_norm_", "optimizer")
        trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.watch(kwargs["optimizer"], "step", "optimizer")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.warm:
            self.parts = dict.fromkeys(self.parts, 0.0)
            self.started, self.cpu_started = time.perf_counter(), time.process_time()
        self.total, self.cpu = time.perf_counter() - self.started, time.process_time() - self.cpu_started


class Counter:
    """Tokens that go through a model's layers, padding included."""

    def __init__(self, *models: PreTrainedModel | None) -> None:
        self.tokens = 0
        for model in models:
            if model is not None:
                model.get_input_embeddings().register_forward_pre_hook(self.count)

    def count(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self.tokens += args[0].numel()


def arguments(task: Task, folder: str) -> Json:
    """What both trainers are told."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": task.batch,
        "max_steps": task.warm + task.steps,
        "learning_rate": task.lr,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": task.seed,
    }


def our_trainer(task: Task, model: PreTrainedModel, batches: list[list[PairRow]], folder: str) -> tuple[Trainer, float]:
    """Our trainer, and the seconds that the reference's log-probs took."""
    shared = task.side == "ours"
    rows = [row for batch in batches for row in batch]
    started = time.perf_counter()
    logps = score_pairs(model, rows, PairCollator(PAD, shared), task.batch, lambda *_: None).tolist()
    took = time.perf_counter() - started
    for row, (first, second) in zip(rows, logps, strict=True):
        row["reference"] = (first, second)
    trainer = PairTrainer(
        model=model,
        args=TrainingArguments(**arguments(task, folder), remove_unused_columns=False),
        rows=rows,
        batches=np.arange(len(rows)).reshape(-1, task.batch).tolist(),
        objective=DPO(beta=BETA),
        pad_id=PAD,
        shared_prompt=shared,
    )
    return trainer, took


def trl_trainer(task: Task, model: PreTrainedModel, batches: list[list[PairRow]], folder: str) -> tuple[Trainer, float]:
    """trl's trainer on the same tokens in the same order, and the seconds that precomputed log-probs took."""
    import copy

    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    seconds = [0.0]

    class OnTokens(DPOTrainer):  # type: ignore[misc]
        """Takes rows as token ids instead of making them of text."""

        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

        def compute_ref_log_probs(self, *args: Any) -> Any:
            started = time.perf_counter()
            found = super().compute_ref_log_probs(*args)
            seconds[0] += time.perf_counter() - started
            return found

    rows = [
        {
            "prompt_ids": row["first"][: -row["first_len"]],
            "chosen_ids": row["first"][-row["first_len"] :],
            "rejected_ids": row["second"][-row["second_len"] :],
        }
        for batch in batches
        for row in batch
    ]
    ahead = task.side == "trl_precomputed"
    trainer = OnTokens(
        model=model,
        ref_model=None if ahead else copy.deepcopy(model),
        args=DPOConfig(
            **arguments(task, folder),
            beta=BETA,
            max_length=None,
            train_sampling_strategy="sequential",
            precompute_ref_log_probs=ahead,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(NANO),  # its padding is never read
    )
    return trainer, seconds[0]


def run(task: Task) -> Json:
    """Train, and say what it took. Memory is that above what the imports had taken."""
    torch.set_num_threads(task.threads)
    make = trl_trainer if task.side.startswith("trl") else our_trainer
    if make is trl_trainer:
        import trl.trainer.dpo_trainer  # noqa: F401  # the imports come before the baseline
    baseline = psutil.Process().memory_info().rss
    reset_peaks("cpu")
    model = make_model(task.model, task.seed)
    rows = make_rows(LENGTHS[task.lengths], model.config.vocab_size, task.seed)
    spend = Spend("steps", task.warm + task.steps, task.batch, 10**6)
    order = pair_schedule(rows, None, spend, task.seed, 2 * task.batch).micro_batches
    batches = [[rows[row].copy() for row in batch] for batch in order]
    with tempfile.TemporaryDirectory() as folder:
        trainer, reference = make(task, model, batches, folder)
        clock = Clock(task.warm)
        clock.follow(trainer)
        theirs = getattr(trainer, "ref_model", None)
        if theirs is not None:
            clock.watch(theirs, "forward", "reference", inside="forward")
        trainer.train()
        peak, parts = peak_host_bytes(), dict(clock.parts)
        tokens, flops = count(trainer, theirs, task)
    pairs = task.batch * task.steps
    parts["other"] = clock.total - sum(parts.values())
    own_reference = reference * task.steps / (task.steps + task.warm)
    return {
        "pairs_per_second": pairs / clock.total,
        "pairs_per_second_with_reference": pairs / (clock.total + own_reference),
        "cpu_seconds_per_pair": clock.cpu / pairs,
        "peak_bytes": peak - baseline,
        "baseline_bytes": baseline,
        "tokens_per_pair": tokens / task.batch,
        "flops_per_pair": flops / task.batch,
        "split": {name: 1000 * value / task.steps for name, value in parts.items()},
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def count(trainer: Trainer, reference: PreTrainedModel | None, task: Task) -> tuple[int, float]:
    """Tokens and floating-point operations of one more step's forward and backward passes.

    The products of linear layers and of the output layer are counted, recomputed ones too, but neither attention's own, which run in a fused
    kernel, nor those that trl's output layer adds up in place.
    """
    from torch.utils.flop_counter import FlopCounterMode

    batch = next(iter(trainer.get_train_dataloader()))
    counted, flops = Counter(trainer.model, reference), FlopCounterMode(display=False)
    with flops:
        trainer.training_step(trainer.model, batch, torch.tensor(task.batch))
    return counted.tokens, float(flops.get_total_flops())


def main(words: Sequence[str]) -> None:
    told = json.loads(words[0])
    answer = Path(told.pop("answer"))
    answer.write_text(json.dumps(run(Task(**told))))


if __name__ == "__main__":
    main(sys.argv[1:])
