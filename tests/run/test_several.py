"""Several processes that share a stage train as one does, and one that is lost takes the others with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run import crew
from tests.run.toy_stages import Note, Silent

from polm_bench.errors import BadOverride, Diverged, StoreError
from polm_bench.graph import Stage
from polm_bench.run import isolate
from polm_bench.run.execute import execute, perform
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.run.store import Store
from polm_bench.trainers.schedule import Schedule

ORDERS = str(Path(__file__).with_name("orders.py"))
TINY = ["budget=smoke", "suite=smoke", "launch.device=cpu", "launch.threads=1"]


@pytest.mark.parametrize(
    ("micro", "accumulation", "processes"), [(8, 1, 2), (4, 2, 2), (6, 2, 4), (3, 4, 6), (1, 8, 8)]
)
def test_the_same_optimiser_batches_are_shared_out(micro, accumulation, processes):
    rows = list(range(micro * accumulation * 3))
    whole = Schedule([rows[at : at + micro] for at in range(0, len(rows), micro)], accumulation)
    shared = whole.shared_by(processes)
    assert shared.steps == whole.steps == 3
    assert shared.accumulation % processes == 0
    assert {len(batch) for batch in shared.micro_batches} == {len(shared.micro_batches[0])}
    assert [row for batch in shared.micro_batches for row in batch] == rows
    assert whole.shared_by(1) is whole


def test_processes_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(BadOverride, match="num_processes=3 does not divide the batch of 8 rows"):
        Schedule([[0, 1, 2, 3], [4, 5, 6, 7]], 2).shared_by(3)


def test_several_processes_need_a_launch_with_workers():
    with pytest.raises(ValueError, match="say launch=multi_gpu"):
        Launch("inline", num_processes=2)


def test_how_many_processes_share_a_stage_is_not_in_its_key():
    from polm_bench.config import plan

    keys = [
        [stage.key for stage in plan(["+recipe=dpo", *words]).stages()]
        for words in (
            ["launch=inline"],
            ["launch=multi_gpu"],
            ["launch=multi_gpu", "launch.num_processes=8"],
            ["launch=fsdp"],
            ["launch=deepspeed"],
        )
    ]
    assert all(found == keys[0] for found in keys)


@pytest.mark.parametrize(("found", "told"), [("1", "number 0 of 1"), ("3", "number 0 of 3")])
def test_a_worker_that_is_one_of_another_number_stops(tmp_path, monkeypatch, found, told):
    job = Job(tmp_path, tmp_path, {}, Launch("multi_gpu", isolate=True, num_processes=2), "cpu")
    job.processes = 2
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", found)
    with pytest.raises(StoreError, match=told):
        isolate.one_of(job)


@pytest.fixture
def alone(monkeypatch):
    """A process that no launcher has told of others."""
    from accelerate.state import AcceleratorState

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_work_in_turns_refuses_processes_that_know_nothing_of_each_other(tmp_path, alone):
    from polm_bench.decoding.turns import Turns

    job = Job(tmp_path, tmp_path, {}, Launch("inline"), "cpu")
    assert Turns.of(job) == (0, 1)
    job.processes = 2
    with pytest.raises(StoreError, match="2 processes were to share this stage, but Accelerate sees 1"):
        Turns.of(job)


def test_batches_in_turns_come_back_in_their_order(monkeypatch):
    from polm_bench.decoding import turns

    batches = ["a", "b", "c", "d", "e"]
    parts = [[one.upper() for one in turns.Turns(rank, 2).mine(batches)] for rank in (0, 1)]
    assert parts == [["A", "C", "E"], ["B", "D"]]
    monkeypatch.setattr(turns, "gather_object", lambda own: parts if own == [parts[1]] else None)
    assert turns.Turns(1, 2).over(batches, str.upper) == ["A", "B", "C", "D", "E"]
    assert turns.ALONE.over(batches, str.upper) == ["A", "B", "C", "D", "E"]
    assert [turns.Turns(0, 4).size(rows, 8) for rows in (3, 9, 100)] == [1, 3, 8]


@pytest.mark.parametrize(("device", "there", "text"), [("auto", 1, "gives 1"), ("cuda:1", 4, "launch.device=cuda:1")])
def test_more_processes_than_devices_are_refused(tmp_path, monkeypatch, device, there, text):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    launch = Launch("multi_gpu", isolate=True, num_processes=2, device=device)
    job = Job(tmp_path, tmp_path, {}, launch, "cuda" if device == "auto" else device)
    with pytest.raises(BadOverride, match=text):
        isolate._devices(job, 2)
    assert isolate._devices(job, 1) == [job.device]


def test_what_deepspeed_needs_is_said_before_anything_starts(monkeypatch, home, capsys):
    from polm_bench.cli.plans import plan
    from polm_bench.run import launch

    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    assert plan(["+recipe=sft", *TINY, "launch=deepspeed"], as_json=False) == 0
    assert "Not on this machine: launch=deepspeed needs DeepSpeed, which is not installed" in capsys.readouterr().out
    asked = Launch("deepspeed", isolate=True, num_processes=2, device="cpu", deepspeed={})
    assert "pip install deepspeed" in str(asked.lacks())
    monkeypatch.setattr(launch, "find_spec", lambda name: name)
    assert "launch=deepspeed needs a device for each process" in str(asked.lacks())
    assert Launch("fsdp", isolate=True, num_processes=2, device="cpu", fsdp={}).lacks() is None


def test_a_model_is_shared_out_in_one_way():
    with pytest.raises(ValueError, match="set one of them to null"):
        Launch("fsdp", isolate=True, num_processes=2, fsdp={}, deepspeed={})
    assert Launch("fsdp", isolate=True, num_processes=2, fsdp={}).in_shares
    assert not Launch("fsdp", isolate=True, fsdp={}).in_shares


def test_of_several_failures_the_one_that_says_most_is_told():
    gone = {"amounts": {}, "notes": {}, "curve": [], "error": {"kind": "failed", "text": "Connection reset by peer"}}
    full = gone | {"error": {"kind": "oom", "text": "no memory"}}
    well = gone | {"error": None}
    assert isinstance(isolate._failure([0, 0], [gone, full], 0), MemoryError)
    assert "Connection reset" in str(isolate._failure([0, 0], [well, gone], 0))
    assert "SIGKILL" in str(isolate._failure([0, -9], [gone, None], 0))
    assert isinstance(isolate._failure([0, -9], [gone, None], 1), isolate.OutOfMemoryError)
    assert isolate._failure([0, 0], [well, well], 0) is None


class Shared(Note):
    """A stage whose work can be shared."""

    parallel = True


@pytest.fixture
def ordered(tmp_path, monkeypatch):
    """Runs a shared stage with workers that do as they are told, one order each; gives the job and what was heard of its progress."""
    monkeypatch.setattr(isolate, "_command", lambda job_file: [sys.executable, ORDERS, str(job_file)])

    def run(*orders: str) -> tuple[Job, list[str]]:
        (tmp_path / "orders.json").write_text(json.dumps(orders))
        heard: list[str] = []
        launch = Launch("multi_gpu", isolate=True, num_processes=len(orders))
        job = Job(tmp_path / "out", tmp_path, {}, launch, "cpu", lambda done, total, what: heard.append(what))
        isolate.run_apart(Shared("x"), job, ["+recipe=base"])
        return job, heard

    return run


def test_the_first_worker_is_heard_and_the_largest_peak_counts(ordered, tmp_path):
    job, heard = ordered("work", "work", "work")
    assert job.ledger.amounts == {"tokens_trained": 10, "peak_host_bytes": 102}
    assert job.curve_points == [{"step": 1, "loss": 0.0}]
    assert heard == ["from 0"]
    assert [path.name for path in tmp_path.iterdir()] == ["orders.json"]


@pytest.mark.parametrize(
    ("orders", "kind", "text"),
    [
        (["hang", "die"], isolate.WorkerFailed, "killed by SIGKILL"),
        (["hang", "diverged"], Diverged, "said by 1"),
        (["diverged", "hang"], Diverged, "said by 0"),
        (["failed", "oom"], MemoryError, "said by 1"),
    ],
)
def test_a_worker_that_is_lost_ends_the_others_and_is_told(ordered, orders, kind, text):
    started = time.monotonic()
    with pytest.raises(kind, match=text):
        ordered(*orders)
    assert time.monotonic() - started < 300  # not the 600 seconds of the one that hangs


# few tokens, a low temperature and a low rate: Adam moves a weight that has no gradient but a rounding error by the whole rate,
# and where such differences decide between two tokens, all that follows is another answer
ROLLOUTS = ["recipe.rollouts.temperature=0.2", "recipe.optim.lr=2e-8", "budget.max_length=64", "launch.micro_batch=3"]
CHECKPOINTS = "launch.checkpoint_seconds=0.001"  # after every step
BATCHES = ["suite.batch_size=3"]  # two for each task, so that both processes have one
GRPO = ["+recipe=grpo", "recipe.reward._target_=polm_bench.rewards.Lexicon"]  # no answer of a random model is right
CELLS = {
    "ppo": ["+recipe=rlhf_ppo", *ROLLOUTS],  # a reward model, then a policy with a critic
    "grpo": [*GRPO, "recipe.rollouts.group=4", *ROLLOUTS],  # two prompts a round
    "lora": ["+recipe=lora", "recipe.adapter.config.lora_dropout=0"],  # each process would draw its own dropout
    "dpo": ["+recipe=dpo", CHECKPOINTS],
    "plain": ["+recipe=base", *BATCHES],
    "votes": ["+recipe=self_consistency", "recipe.decoder.count=3", "recipe.decoder.pattern='(\\d)'", *BATCHES],
}
SHARES = ["launch=fsdp"]


@pytest.fixture(scope="module")
def shared(toy_model, tmp_path_factory) -> dict[str, dict[str, dict[str, Any]]]:
    """What one process and two tell of the same cells: by cell, by number of processes, by kind of stage."""
    place = tmp_path_factory.mktemp("several")
    for folder in ("one", "two", "shares"):
        (place / folder).mkdir()
    cells = {name: [*words, f"model.path={toy_model}", *TINY] for name, words in CELLS.items()}
    made = {name: {"one": crew.run(words, place / "one")} for name, words in cells.items()}
    orders = {name: (str(place / "two"), str(place / "one"), words) for name, words in cells.items()}
    orders["shares"] = (str(place / "shares"), str(place / "shares"), [*cells["dpo"], *SHARES])
    (place / "orders").write_text(json.dumps(orders))
    crew.by_two(crew.run_all, str(place / "orders"))
    told = {name: json.loads((place / f"{name}.json").read_text()) for name in orders}
    for name in cells:
        made[name]["two"] = told[name]
    made["dpo"]["shares"] = told["shares"]
    return made


def same_losses(one: list[dict[str, float]], two: list[dict[str, float]]) -> None:
    """Compares losses within 1e-5, and what is plotted beside them within 1e-4, of the value or of 1 where it is smaller."""
    assert [sorted(point) for point in one] == [sorted(point) for point in two]
    for expected, found in zip(one, two, strict=True):
        for name, value in expected.items():
            near = 1e-5 if name in ("step", "tokens", "learning_rate", "loss", "value_loss", "reward") else 1e-4
            assert found[name] == pytest.approx(value, rel=near, abs=near), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "stage"),
    [
        ("lora", "TrainSFT"),
        ("dpo", "TrainPairs"),
        ("ppo", "TrainReward"),
        ("ppo", "TrainPolicy"),
        ("grpo", "TrainPolicy"),
    ],
)
def test_two_processes_give_the_losses_and_the_weights_of_one(shared, cell, stage):
    from safetensors.torch import load_file

    one, two = shared[cell]["one"][stage], shared[cell]["two"][stage]
    assert one["curve"]
    same_losses(one["curve"], two["curve"])
    for name in ("tokens_trained", "tokens_generated", "tokens_scored", "flops"):
        assert two["ledger"][name] == one["ledger"][name], name
    weights = [load_file(next(Path(told["out"]).glob("*.safetensors"))) for told in (one, two)]
    assert all(weights[1][name].allclose(weight, atol=1e-4) for name, weight in weights[0].items())
    if stage == "TrainPolicy":  # at so low a rate the weights say little, but the way they went does
        start = load_file(next(Path(shared[cell]["one"]["TrainSFT"]["out"]).glob("*.safetensors")))
        moves = [np.concatenate([(made[name] - start[name]).flatten().numpy() for name in start]) for made in weights]
        assert moves[0] @ moves[1] > 0.999 * np.linalg.norm(moves[0]) * np.linalg.norm(moves[1]) > 0


@pytest.mark.slow
def test_a_policy_learns_something_in_the_comparison(shared):
    """Equal rewards would make equal losses of zero."""
    for cell in ("ppo", "grpo"):
        assert any(point["grad_norm"] > 1e-3 for point in shared[cell]["one"]["TrainPolicy"]["curve"])


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["plain", "votes"])
def test_two_processes_score_every_item_as_one_does(shared, cell):
    import pandas as pd

    one, two = shared[cell]["one"]["Evaluate"], shared[cell]["two"]["Evaluate"]
    scores, items = ([Path(told["out"]) / name for told in (one, two)] for name in ("scores.json", "items.parquet"))
    assert json.loads(scores[0].read_text()) == json.loads(scores[1].read_text()) != []
    pd.testing.assert_frame_equal(pd.read_parquet(items[1]), pd.read_parquet(items[0]))
    for name in ("tokens_generated", "tokens_scored", "flops", "tokens_per_answer", "truncated_answers"):
        assert two["ledger"][name] == one["ledger"][name] > 0, name


@pytest.mark.slow
def test_a_model_trained_in_shares_has_the_losses_of_one_process_and_is_whole(shared):
    from polm_bench.models.load import load_model

    for stage in ("TrainSFT", "TrainPairs"):
        same_losses(*(shared["dpo"][how][stage]["curve"] for how in ("one", "shares")))
    whole, expected = (
        load_model(Path(shared["dpo"][how]["TrainPairs"]["out"]), "float32", "cpu") for how in ("shares", "one")
    )
    for weight, other in zip(whole.parameters(), expected.parameters(), strict=True):
        assert weight.allclose(other, atol=1e-4)


def leave(told: dict[str, Any], folder: Path) -> None:
    """Of a finished stage what a kill would have left: a checkpoint, and not its last."""
    out = Path(told["out"])
    scratch = out.parent / f"scratch-{out.name.rpartition('-')[2]}"
    first, *_ = sorted(scratch.glob("checkpoint-*"))
    mark = shutil.copytree(first, folder / scratch.name / first.name) / "complete.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"wall_seconds": 1000.0}))


@pytest.mark.slow
def test_two_processes_go_on_from_a_checkpoint_to_the_same_weights(shared, toy_model, tmp_path):
    words = [*CELLS["dpo"], f"model.path={toy_model}", *TINY]
    one = str(Path(shared["dpo"]["one"]["TrainSFT"]["out"]).parent)
    orders = {
        "two": (str(tmp_path / "two"), one, words),
        "shares": (str(tmp_path / "shares"),) * 2 + ([*words, *SHARES],),
    }
    for how in orders:
        for stage in ("TrainSFT", "TrainPairs"):
            leave(shared["dpo"][how][stage], tmp_path / how)
    (tmp_path / "orders").write_text(json.dumps(orders))
    crew.by_two(crew.run_all, str(tmp_path / "orders"))
    for how in orders:
        resumed = json.loads((tmp_path / f"{how}.json").read_text())
        for stage in ("TrainSFT", "TrainPairs"):
            whole, again = shared["dpo"][how][stage], resumed[stage]
            assert again["ledger"]["device_seconds"] > 2000  # with what the checkpoint had taken
            assert again["curve"] == whole["curve"]
            weights = [(Path(told["out"]) / "model.safetensors").read_bytes() for told in (whole, again)]
            assert weights[0] == weights[1]


@pytest.mark.slow
def test_workers_of_their_own_train_as_one_process_does(shared, toy_model, tmp_path):
    from polm_bench.config import plan

    found = plan([*CELLS["dpo"], f"model.path={toy_model}", *TINY, "launch=multi_gpu"])

    def work(stage: Stage, job: Job) -> None:
        isolate.run_apart(stage, job, found.overrides) if stage.parallel else perform(stage, job)

    outcomes = execute([found.graph.start], Store(tmp_path / "store"), found.launch, Silent(), "test", work)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"], outcomes[-1].reason
    same_losses(shared["dpo"]["one"]["TrainSFT"]["curve"], outcomes[-1].curve)
    assert not list((tmp_path / "store" / ".scratch").iterdir())


@pytest.mark.slow
def test_a_worker_that_finds_another_world_stops_with_an_error(toy_model, tmp_path):
    from polm_bench.config import plan

    found = plan(["+recipe=base", f"model.path={toy_model}", *TINY])
    stage = found.evaluations["base"]
    told = {
        "overrides": found.overrides,
        "key": stage.key,
        "out": str(tmp_path),
        "scratch": str(tmp_path),
        "inputs": {},
    }
    told |= {"launch": asdict(found.launch), "parent": os.getpid(), "processes": 2, "rank": 0, "device": "cpu"}
    files = isolate.files_of(tmp_path, 0)
    files.job.write_text(json.dumps(told))
    world = {"RANK": "0", "WORLD_SIZE": "3"}
    assert subprocess.run(isolate._command(files.job), env=os.environ | world, capture_output=True).returncode == 0
    error = json.loads(files.result.read_text())["error"]
    assert error["kind"] == "store"
    assert "was to be number 0 of 2, and its environment says number 0 of 3" in error["text"]


@pytest.mark.slow
def test_training_refuses_processes_that_know_nothing_of_each_other(toy_model, tmp_path, alone):
    """A launcher that starts two processes without telling them: each would train the whole, on the same store."""
    from polm_bench.config import plan

    train = plan(["+recipe=sft", f"model.path={toy_model}", *TINY]).graph.model
    job = Job(tmp_path, tmp_path, {train.inputs[0].key: toy_model}, Launch("inline"), "cpu")
    job.processes = 2
    with pytest.raises(StoreError, match="2 processes were to share this stage, but Accelerate sees 1"):
        train.run(job)
    assert list(tmp_path.iterdir()) == []
