"""A stage in a process of its own does what it would have done here, and its end is told apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from polm_bench.cli import main
from polm_bench.errors import Diverged, PolmError
from polm_bench.run import isolate

CELL = ["+recipe=sft", "budget=smoke", "suite=smoke", "track=none", "launch.threads=1"]


def test_a_kernel_that_kills_for_memory_is_told_from_any_other_killer():
    assert isinstance(isolate._ended(-signal.SIGKILL, 1), isolate.OutOfMemoryError)
    assert str(isolate._ended(-signal.SIGKILL, 0)) == "the stage's process was killed by SIGKILL"
    assert "status 3" in str(isolate._ended(3, 0))


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        ("mistake", PolmError),
        ("diverged", Diverged),
        ("timeout", TimeoutError),
        ("oom", MemoryError),
        ("failed", RuntimeError),
        ("interrupted", KeyboardInterrupt),
    ],
)
def test_what_the_worker_saw_is_raised_here_as_the_same_kind(kind, raised):
    error = isolate._raised({"kind": kind, "text": "so it was"})
    assert isinstance(error, raised)
    assert "so it was" in str(error)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The home of a cell that ran in one process."""
    place = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLM_HOME", str(place))
        assert main(["run", *CELL]) == 0
    return place


def with_the_base_judged(here, home):
    """A home that lacks of the cell's stages what training and its scores take: three of four."""
    told = the_record(here)
    (judged,) = (stage["key"] for stage in told["stages"] if stage["key"] == told["rows"]["base"])
    shutil.copytree(here / "store" / f"Evaluate-{judged}", home / "store" / f"Evaluate-{judged}")


def the_record(home):
    (path,) = (home / "records").glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_cell_in_processes_of_their_own_has_the_scores_and_bytes_of_one_process(here, home):
    with_the_base_judged(here, home)
    assert main(["run", *CELL, "launch=process"]) == 0
    apart = the_record(home)
    assert apart["scores"] == the_record(here)["scores"]
    one, two = (next((place / "store").glob("TrainSFT-*/model.safetensors")) for place in (home, here))
    assert one.read_bytes() == two.read_bytes()
    peaks = {stage["kind"]: stage["ledger"]["peak_host_bytes"] for stage in apart["stages"] if not stage["shared"]}
    assert peaks["FetchModel"] < peaks["TrainSFT"]  # each its own


@pytest.mark.slow
def test_a_worker_ends_with_its_parent_and_the_next_run_goes_on(here, home):
    with_the_base_judged(here, home)
    words = [sys.executable, "-m", "polm_bench", "run", *CELL, "launch=process"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ) as process:
        workers: list[psutil.Process] = []
        while not workers:  # ends: the cell starts three of them, or the process dies and psutil raises
            workers = psutil.Process(process.pid).children()
            time.sleep(0.02)
        process.kill()
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert gone
    assert not alive
    assert main(["run", *CELL]) == 0
