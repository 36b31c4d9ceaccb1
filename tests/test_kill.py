"""A cell that is killed, and cells that run side by side, end with the record of an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polm_bench.drill.cell import essence_of

pytestmark = pytest.mark.slow


def start(home: Path, toy_model: Path, recipe: str) -> subprocess.Popen[bytes]:
    words = [
        f"+recipe={recipe}",
        f"model.path={toy_model}",
        "budget=smoke",
        "suite=smoke",
        "track=none",
        "launch.threads=1",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "polm_bench", "run", *words],
        env=os.environ | {"POLM_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=(home.parent / f"{home.name}-{recipe}.log").open("ab"),
    )


def record(home: Path, recipe: str) -> dict:
    return json.loads(next((home / "records").glob(f"{recipe}-*.json")).read_text())


def kill_in(home: Path, toy_model: Path, stage: str) -> None:
    """Kill a run as soon as the store shows that the stage is under way."""
    process = start(home, toy_model, "dpo")
    until = time.monotonic() + 300
    while not list((home / "store" / ".partial").glob(f"{stage}-*")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < until, f"{stage} did not start in five minutes"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def undisturbed(toy_model, tmp_path_factory) -> dict:
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    assert start(home, toy_model, "dpo").wait() == 0
    return record(home, "dpo")


def test_a_run_killed_in_any_stage_ends_with_the_undisturbed_record(toy_model, tmp_path, undisturbed):
    home = tmp_path / "home"
    finished: dict[Path, float] = {}
    for stage in ("TrainSFT", "TrainPairs", "Evaluate"):
        kill_in(home, toy_model, stage)
        whole = {path: path.stat().st_mtime for path in (home / "store").glob("*-*/manifest.json")}
        assert finished.items() <= whole.items()
        finished = whole
        assert not list((home / "records").glob("*.json")) if (home / "records").exists() else True
    assert start(home, toy_model, "dpo").wait() == 0
    assert all(path.stat().st_mtime == made for path, made in finished.items())
    assert essence_of(record(home, "dpo")) == essence_of(undisturbed)
    assert list((home / "store" / ".partial").iterdir()) == []


def test_two_cells_at_once_train_their_common_stage_once(toy_model, tmp_path, undisturbed):
    home = tmp_path / "home"
    both = [start(home, toy_model, recipe) for recipe in ("dpo", "simpo")]
    assert [process.wait() for process in both] == [0, 0]
    shared = [
        stage["shared"]
        for recipe in ("dpo", "simpo")
        for stage in record(home, recipe)["stages"]
        if stage["kind"] == "TrainSFT"
    ]
    assert sorted(shared) == [False, True]
    assert len(list((home / "store").glob("TrainSFT-*"))) == 1
    assert essence_of(record(home, "dpo")) == essence_of(undisturbed)
