"""Several processes that share a stage train as one does, and one that is lost takes the others with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tests.run.toy_stages import Note, Silent

from polm_bench.errors import BadOverride, Diverged, StoreError
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
        for words in (["launch=inline"], ["launch=multi_gpu"], ["launch=multi_gpu", "launch.num_processes=8"])
    ]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.parametrize(("found", "told"), [("1", "number 0 of 1"), ("3", "number 0 of 3")])
def test_a_worker_that_is_one_of_another_number_stops(tmp_path, monkeypatch, found, told):
    job = Job(tmp_path, tmp_path, {}, Launch("multi_gpu", isolate=True, num_processes=2), "cpu")
    job.processes = 2
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", found)
    with pytest.raises(StoreError, match=told):
        isolate.one_of(job)


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


def train(recipe: str, model: Path, home: Path, *words: str) -> dict[str, list[dict[str, float]]]:
    """Curves of the training stages of a recipe."""
    from polm_bench.config import plan

    found = plan([f"+recipe={recipe}", f"model.path={model}", *TINY, *words])
    work = partial(isolate.run_apart, overrides=found.overrides) if found.launch.isolate else perform
    outcomes = execute([found.graph.model], Store(home / "store"), found.launch, Silent(), "test", work)
    assert [outcome.status for outcome in outcomes] == ["ok"] * len(outcomes), outcomes[-1].reason
    return {type(outcome.stage).__name__: outcome.curve for outcome in outcomes if outcome.curve}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "words", "stages"),
    [
        ("dpo", [], {"TrainSFT", "TrainPairs"}),
        (
            "lora",
            ["recipe.adapter.config.lora_dropout=0"],
            {"TrainSFT"},
        ),  # each process draws its own dropout, as each micro-batch does
    ],
)
def test_two_processes_give_the_losses_of_one(toy_model, tmp_path, recipe, words, stages):
    one = train(recipe, toy_model, tmp_path / "one", *words)
    two = train(recipe, toy_model, tmp_path / "two", *words, "launch=multi_gpu", "launch.num_processes=2")
    assert one.keys() == two.keys() == stages
    for kind in one:
        for name in ("step", "tokens", "loss", "learning_rate", "grad_norm"):
            expected = [point[name] for point in one[kind]]
            assert [point[name] for point in two[kind]] == pytest.approx(expected, rel=1e-5), (kind, name)
    assert not list((tmp_path / "two" / "store" / ".scratch").iterdir())


@pytest.mark.slow
def test_training_refuses_processes_that_know_nothing_of_each_other(toy_model, tmp_path):
    """A launcher that starts two processes without telling them: each would train the whole, on the same store."""
    code = """
import sys
from pathlib import Path
from polm_bench.config import plan
from polm_bench.run.launch import Launch
from polm_bench.run.job import Job
found = plan(["+recipe=sft", f"model.path={sys.argv[1]}", "budget=smoke", "suite=smoke"])
base, train = found.graph.model.inputs[0], found.graph.model
job = Job(Path(sys.argv[2]), Path(sys.argv[2]), {base.key: Path(sys.argv[1])}, Launch("inline"), "cpu")
job.processes = 2
train.run(job)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(toy_model), str(tmp_path)],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
    )
    assert done.returncode == 1
    assert "2 processes were to share this training, but Accelerate sees 1" in done.stderr
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == "[]"
