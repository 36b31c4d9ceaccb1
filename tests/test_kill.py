"""A cell that is killed, and cells that run side by side, end with the record of an undisturbed one."""

from __future__ import annotations

import json
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from polm_bench.drill import cell
from polm_bench.drill.cell import essence_of, warm_up

pytestmark = pytest.mark.slow


def start(home: Path, toy_model: Path, recipe: str) -> BaseProcess:
    """A process that runs the cell."""
    return cell.start([f"+recipe={recipe}", f"model.path={toy_model}"], home)


def status(process: BaseProcess) -> int | None:
    process.join()
    return process.exitcode


def record(home: Path, recipe: str) -> dict:
    return json.loads(next((home / "records").glob(f"{recipe}-*.json")).read_text())


def kill_in(home: Path, toy_model: Path, stage: str) -> None:
    """Kill a run as soon as the store shows that the stage is under way."""
    process = start(home, toy_model, "dpo")
    until = time.monotonic() + 300
    while not list((home / "store" / ".partial").glob(f"{stage}-*")):
        assert process.is_alive(), "the run ended before it could be killed"
        assert time.monotonic() < until, f"{stage} did not start in five minutes"
        time.sleep(0.002)
    process.kill()
    assert status(process) == -signal.SIGKILL


@pytest.fixture(scope="module")
def undisturbed(toy_model, tmp_path_factory) -> dict:
    warm_up()
    home = tmp_path_factory.mktemp("undisturbed") / "home"
    assert status(start(home, toy_model, "dpo")) == 0
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
    assert status(start(home, toy_model, "dpo")) == 0
    assert all(path.stat().st_mtime == made for path, made in finished.items())
    assert essence_of(record(home, "dpo")) == essence_of(undisturbed)
    assert list((home / "store" / ".partial").iterdir()) == []


def test_two_cells_at_once_train_their_common_stage_once(toy_model, tmp_path, undisturbed):
    home = tmp_path / "home"
    both = [start(home, toy_model, recipe) for recipe in ("dpo", "simpo")]
    assert [status(process) for process in both] == [0, 0]
    shared = [
        stage["shared"]
        for recipe in ("dpo", "simpo")
        for stage in record(home, recipe)["stages"]
        if stage["kind"] == "TrainSFT"
    ]
    assert sorted(shared) == [False, True]
    assert len(list((home / "store").glob("TrainSFT-*"))) == 1
    assert essence_of(record(home, "dpo")) == essence_of(undisturbed)
