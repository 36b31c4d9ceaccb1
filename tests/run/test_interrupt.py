"""Ctrl-C once ends training with a checkpoint to go on from, twice it ends now; either way nothing that was finished is lost."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import pytest
from pydantic.dataclasses import dataclass
from tests.run.toy_stages import LAUNCH, Silent, run

from polm_bench.graph import FORBID, Stage
from polm_bench.run.execute import execute
from polm_bench.run.isolate import run_apart
from polm_bench.run.store import Store
from polm_bench.run.upkeep import is_held

WORDS = ["+recipe=sft", "budget=smoke", "suite=smoke", "launch.device=cpu", "launch.threads=1"]
STEPS = 8  # of conf/budget/smoke.yaml


@pytest.fixture(autouse=True)
def heeded():
    """Ctrl-C as a shell hands it on; one that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@dataclass(frozen=True, config=FORBID)
class Unstoppable(Stage):
    """Has no checkpoint to write."""

    def run(self, job) -> None:
        (job.out / "half").write_text("half")
        press()
        time.sleep(60)


def test_where_there_is_no_checkpoint_to_write_it_ends_now_and_leaves_nothing_half_made(tmp_path):
    store, started = Store(tmp_path), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run([Unstoppable()], store)
    assert time.monotonic() - started < 30
    assert not store.path(Unstoppable()).exists()
    assert list((tmp_path / ".partial").iterdir()) == []
    assert not is_held(tmp_path / ".locks" / Unstoppable().folder)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Impatient(Silent):
    """Presses Ctrl-C some times once training has come to a step."""

    def __init__(self, at: int, times: int) -> None:
        super().__init__()
        self.at, self.times, self.steps = at, times, list[float]()

    def progress(self, done, total, what) -> None:
        if what == "steps":
            self.steps.append(done)
            while done >= self.at and self.times:
                self.times -= 1
                press()


@pytest.fixture
def training(toy_model):
    from polm_bench.config import plan

    return plan([*WORDS, f"model.path={toy_model}"])


def weights(store: Store, stage: Stage) -> bytes:
    return (store.path(stage) / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_pressed_once_training_writes_its_checkpoint_and_goes_on_from_there(training, tmp_path):
    stage, stopped, undisturbed = training.graph.model, Store(tmp_path / "stopped"), Store(tmp_path / "undisturbed")
    once, again = Impatient(at=3, times=1), Impatient(at=0, times=0)
    with pytest.raises(KeyboardInterrupt):
        execute([stage], stopped, training.launch, once, "me")
    assert [text.strip() for kind, text in once.told if kind == "say"] == [
        "stopping at the next checkpoint; Ctrl-C again stops now"
    ]
    assert [mark.parent.name for mark in stopped.scratch(stage).glob("checkpoint-*/complete.json")] == ["checkpoint-3"]
    for store, reporter in ((stopped, again), (undisturbed, Silent())):
        assert execute([stage], store, training.launch, reporter, "me")[-1].status == "ok"
    assert again.steps == [4, 5, 6, 7, STEPS]
    assert weights(stopped, stage) == weights(undisturbed, stage)


@pytest.mark.slow
def test_pressed_twice_training_ends_now(training, tmp_path):
    stage, store = training.graph.model, Store(tmp_path)
    impatient = Impatient(at=3, times=2)
    with pytest.raises(KeyboardInterrupt):
        execute([stage], store, training.launch, impatient, "me")
    assert impatient.steps == [1, 2, 3]
    assert list(store.scratch(stage).glob("checkpoint-*")) == []
    assert not store.has(stage)
    assert all(store.has(before) for before in stage.inputs)


@pytest.mark.slow
def test_a_worker_is_told_to_write_its_checkpoint(toy_model, tmp_path):
    from polm_bench.config import plan

    found = plan([*WORDS, f"model.path={toy_model}", "launch=process", "budget.amount=2000"])
    stage, store, impatient = found.graph.model, Store(tmp_path), Impatient(at=1, times=1)
    execute(list(stage.inputs), store, LAUNCH, Silent(), "me")
    with pytest.raises(KeyboardInterrupt):
        execute([stage], store, found.launch, impatient, "me", partial(run_apart, overrides=found.overrides))
    (mark,) = store.scratch(stage).glob("checkpoint-*/complete.json")
    assert 0 < int(mark.parent.name.removeprefix("checkpoint-")) < 2000
    assert impatient.steps[-1] < 2000
