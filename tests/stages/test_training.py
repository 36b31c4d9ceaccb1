"""Training stages on the toy model: where they stop, how they go on after a kill, what they write."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.errors import Diverged
from polm_bench.graph import FORBID, Stage
from polm_bench.models.adapter import Adapter
from polm_bench.objectives import DPO
from polm_bench.run.job import Job, silent
from polm_bench.run.launch import Launch
from polm_bench.stages import FoldAdapter, ReferenceLogps, TrainPairs, TrainSFT, TrainText
from polm_bench.trainers.optim import Optim

pytestmark = pytest.mark.slow

SUMS = [(a, b) for a in range(8) for b in range(8)]


@dataclass(frozen=True, config=FORBID)
class Sums(Rows):
    """Additions for every role that the stages read."""

    def load(self, split):
        asked = [[{"role": "user", "content": f"{a}+{b}?"}] for a, b in SUMS]
        answers = [str(a + b) for a, b in SUMS]
        if self.role == "corpus":
            return [{"text": f"{a}+{b}={a + b}. " * 9} for a, b in SUMS]
        if self.role == "sft":
            return [{"prompt": prompt, "completion": answer} for prompt, answer in zip(asked, answers)]
        return [
            {"prompt": prompt, "chosen": answer, "rejected": f"no {answer}"} for prompt, answer in zip(asked, answers)
        ]


@dataclass(frozen=True, config=FORBID)
class Given(Stage):
    """Stands for a model folder that the test has."""

    name: str = "toy"


SPEND = Spend("steps", 12, 8, 64)
OPTIM = Optim(lr=1e-3)


def sft(spend=SPEND, optim=OPTIM, adapter=None, cls=TrainSFT, role="sft"):
    return cls(Given(), Sums(role), spend, optim, 0, adapter)


def run(stage, folder: Path, inputs: dict[str, Path], progress=silent, micro_batch=64, checkpoint_seconds=1e9) -> Job:
    out = folder / "out"
    out.mkdir(parents=True)
    (folder / "scratch").mkdir(exist_ok=True)
    launch = Launch(
        name="test", device="cpu", threads=1, micro_batch=micro_batch, checkpoint_seconds=checkpoint_seconds
    )
    job = Job(out, folder / "scratch", inputs, launch, "cpu", progress)
    stage.run(job)
    return job


def cut_off(stage, folder: Path, inputs: dict[str, Path], at: int) -> None:
    """A run that is stopped at a step, with a checkpoint after each one before."""

    def stop(done, total, what):
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stage, folder, inputs, progress=stop, checkpoint_seconds=1e-9)
    (folder / "out").rmdir()  # nothing in it


def weights(job: Job):
    from safetensors.torch import load_file

    return load_file(job.out / "model.safetensors")


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def test_training_learns_and_pays_for_it(toy_model, tmp_path):
    job = run(sft(), tmp_path, {Given().key: toy_model})
    assert job.ledger.notes["steps"] == 12
    assert job.curve_points[-1]["loss"] < job.curve_points[0]["loss"]
    assert job.curve_points[-1]["tokens"] == job.ledger.amounts["tokens_trained"]
    assert (
        job.ledger.amounts["flops"] > 6 * 0.4e6 * job.ledger.amounts["tokens_trained"]
    )  # 6 N D, N without the embedding's look-up
    assert (job.out / "tokenizer.json").exists()


def test_the_same_cell_gives_the_same_weights_to_the_bit(toy_model, tmp_path):
    first, second = (run(sft(), tmp_path / name, {Given().key: toy_model}) for name in "ab")
    assert same(weights(first), weights(second))
    assert first.curve_points == second.curve_points


@pytest.mark.parametrize("kind", ["sft", "text", "lora", "dpo"])
def test_a_run_that_was_cut_off_goes_on_as_if_nothing_had_happened(toy_model, tmp_path, kind):
    inputs = {Given().key: toy_model}
    stage = {
        "sft": sft(),
        "text": sft(cls=TrainText, role="corpus"),
        "lora": sft(adapter=Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1})),
    }.get(kind)
    if stage is None:
        reference = ReferenceLogps(Given(), Sums("preference"), SPEND, 0)
        inputs[reference.key] = run(reference, tmp_path / "reference", inputs).out
        stage = TrainPairs(Given(), reference, DPO(beta=0.1), Sums("preference"), SPEND, OPTIM, 0)
    whole = run(stage, tmp_path / "whole", inputs)

    cut_off(stage, tmp_path / "cut", inputs, at=7)
    seen = []
    resumed = run(stage, tmp_path / "cut", inputs, progress=lambda done, total, what: seen.append(done))
    assert min(seen) == 7
    name = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    assert (resumed.out / name).read_bytes() == (whole.out / name).read_bytes()
    assert resumed.curve_points == whole.curve_points
    assert resumed.ledger.amounts["tokens_trained"] == whole.ledger.amounts["tokens_trained"]
    assert resumed.ledger.amounts["flops"] == whole.ledger.amounts["flops"]


@pytest.mark.parametrize("harm", [lambda path: path.write_bytes(path.read_bytes()[:100]), Path.unlink])
def test_a_checkpoint_that_is_not_whole_gives_way_to_the_one_before(toy_model, tmp_path, harm):
    stage, inputs, seen = sft(), {Given().key: toy_model}, []
    whole = run(stage, tmp_path / "whole", inputs)
    cut_off(stage, tmp_path / "cut", inputs, at=7)
    harm(tmp_path / "cut" / "scratch" / "checkpoint-6" / "optimizer.pt")
    resumed = run(stage, tmp_path / "cut", inputs, progress=lambda done, total, what: seen.append(done))
    assert min(seen) == 6
    assert same(weights(resumed), weights(whole))
    assert resumed.curve_points == whole.curve_points


def test_a_checkpoint_of_other_processes_or_of_shares_is_left(toy_model, tmp_path):
    stage, inputs, seen = sft(), {Given().key: toy_model}, []
    cut_off(stage, tmp_path, inputs, at=4)
    for mark in (tmp_path / "scratch").glob("checkpoint-*/complete.json"):
        told = json.loads(mark.read_text())
        assert told["made_by"] == {"processes": 1, "in_shares": False}
        mark.write_text(json.dumps(told | {"made_by": {"processes": 2, "in_shares": True}}))
    run(stage, tmp_path, inputs, progress=lambda done, total, what: seen.append(done))
    assert min(seen) == 1


def test_a_checkpoint_that_was_not_written_to_its_end_is_not_used(toy_model, tmp_path):
    scratch = tmp_path / "scratch" / "checkpoint-3"
    scratch.mkdir(parents=True)
    (scratch / "trainer_state.json").write_text("{")
    seen = []
    run(sft(), tmp_path, {Given().key: toy_model}, progress=lambda done, total, what: seen.append(done))
    assert seen == list(range(1, 13))


@pytest.mark.parametrize(("unit", "amount"), [("tokens", 900), ("flops", 4e9)])
def test_training_stops_when_the_budget_is_spent(toy_model, tmp_path, unit, amount):
    job = run(sft(Spend(unit, amount, 8, 64)), tmp_path, {Given().key: toy_model})
    spent = job.ledger.amounts["tokens_trained" if unit == "tokens" else "flops"]
    assert amount <= spent < amount * (1 + 1.5 / job.ledger.notes["steps"])
    assert job.ledger.notes["asked"] == {unit: amount}


def test_a_budget_in_seconds_ends_by_the_clock(toy_model, tmp_path):
    job = run(sft(Spend("seconds", 0.5, 8, 64)), tmp_path, {Given().key: toy_model})
    assert job.ledger.amounts["device_seconds"] >= 0.5
    assert job.ledger.notes["steps"] >= 1
    assert job.curve_points[-1]["learning_rate"] < 1e-3


def test_a_loss_that_is_no_number_is_divergence(toy_model, tmp_path):
    with pytest.raises(Diverged, match=r"is nan|is inf|not finite"):
        run(sft(optim=Optim(lr=1e9, clip=1e9, warmup=0)), tmp_path, {Given().key: toy_model})


def test_accumulation_gives_the_same_losses(toy_model, tmp_path):
    whole, split = (run(sft(), tmp_path / str(size), {Given().key: toy_model}, micro_batch=size) for size in (8, 2))
    assert [p["loss"] for p in split.curve_points] == pytest.approx([p["loss"] for p in whole.curve_points], rel=1e-4)


def test_dpo_starts_at_log_two_on_its_own_reference(toy_model, tmp_path):
    inputs = {Given().key: toy_model}
    reference = ReferenceLogps(Given(), Sums("preference"), SPEND, 0)
    inputs[reference.key] = run(reference, tmp_path / "reference", inputs).out
    job = run(
        TrainPairs(Given(), reference, DPO(beta=0.1), Sums("preference"), SPEND, OPTIM, 0), tmp_path / "dpo", inputs
    )
    assert job.curve_points[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert job.curve_points[-1]["reward_margin"] > 0


def test_a_folded_adapter_says_what_base_and_adapter_say(toy_model, tmp_path):
    import torch
    from peft import PeftModel

    from polm_bench.models.load import load_model

    tuned = sft(adapter=Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear"}))
    adapter = run(tuned, tmp_path / "adapter", {Given().key: toy_model})
    assert json.loads((adapter.out / "adapter_config.json").read_text())["r"] == 4
    assert adapter.ledger.notes["trainable_params"] < adapter.ledger.notes["total_params"] / 10
    folded = run(FoldAdapter(Given(), tuned), tmp_path / "folded", {Given().key: toy_model, tuned.key: adapter.out})
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        apart = PeftModel.from_pretrained(load_model(toy_model), adapter.out)(input_ids=ids).logits
        together = load_model(folded.out)(input_ids=ids).logits
        base = load_model(toy_model)(input_ids=ids).logits
    assert torch.allclose(apart, together, atol=1e-4)
    assert not torch.allclose(base, together, atol=1e-3)


def test_packed_rows_are_full(toy_model):
    from polm_bench.models.load import load_tokenizer
    from polm_bench.stages.sft import completion_rows, packed_rows

    tokenizer = load_tokenizer(toy_model)
    packed = packed_rows(tokenizer, [row["text"] for row in Sums("corpus").load("train")], 64)
    assert {len(row["input_ids"]) for row in packed} == {64}
    rows = completion_rows(tokenizer, Sums("sft").load("train"), 64)
    for row, (a, b) in zip(rows, SUMS):
        told = [token for token in row["labels"] if token != -100]
        assert tokenizer.decode(told) == f"{a + b}{tokenizer.eos_token}"
        assert row["input_ids"][-len(told) :] == told
