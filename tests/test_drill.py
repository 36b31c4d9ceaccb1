"""The drills, smaller: the promises hold for a few kills, a small crowd and a small disk."""

from __future__ import annotations

import json

import pytest
from tests import toy_cells

from polm_bench.cli import main
from polm_bench.drill import crowd, disk, kill, mlflow
from polm_bench.drill.cell import Verdict, differences, half_made, unexplained, warm_up
from polm_bench.files import write_json
from polm_bench.run import track


def test_a_verdict_is_kept_until_a_promise_is_broken():
    verdict = Verdict("kill")
    verdict.see("whole", [])
    assert verdict.kept
    verdict.see("whole", ["TrainSFT-1: model.safetensors"])
    verdict.see("whole", [])
    assert not verdict.kept
    assert verdict.promises == {"whole": ["TrainSFT-1: model.safetensors"]}


def test_differences_are_told_by_their_place():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a: c", "d"]
    assert differences({"a": [1]}, {"a": [1]}) == []


def test_what_is_half_made_and_what_nobody_explains_is_seen(home):
    folder = home / "store" / "TrainSFT-0123456789ab"
    folder.mkdir(parents=True)
    write_json(folder / "manifest.json", {"files": {}})
    write_json(home / "store" / "stray.json", {})
    assert half_made(home) == []
    assert unexplained(home) == ["store/stray.json"]
    (folder / "manifest.json").unlink()
    assert half_made(home) == ["TrainSFT-0123456789ab: manifest.json"]
    write_json(folder / "manifest.json", {"files": {"model.safetensors": {"bytes": 1, "sha256": "0"}}})
    assert half_made(home) == ["TrainSFT-0123456789ab: model.safetensors"]


def test_many_kills_of_toy_cells_lose_nothing(tmp_path):
    said: list[str] = []
    verdict = kill.drill(25, 0, tmp_path, said.append, toy_cells.start)
    assert {name: broken for name, broken in verdict.promises.items() if broken} == {}
    assert verdict.figures["kills"] == sum(verdict.figures["at"].values()) == 25
    assert verdict.figures["with a checkpoint to go on from"] > 0
    assert said[-1].startswith("25 of 25 kills")


def test_a_stage_that_resumes_wrongly_breaks_a_promise(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FORGETFUL", "yes")
    verdict = kill.drill(10, 0, tmp_path, lambda text: None, toy_cells.start)
    assert not verdict.kept
    assert verdict.promises[kill.EQUAL]
    assert not verdict.promises[kill.ONCE]


def test_a_crowd_of_toy_cells_makes_each_stage_once(tmp_path, monkeypatch):
    # Longer than eight processes take to start, so that one is seen at work.
    monkeypatch.setattr(toy_cells, "SECONDS", 0.1)
    verdict = crowd.drill(8, tmp_path, lambda text: None, toy_cells.start)
    assert {name: broken for name, broken in verdict.promises.items() if broken} == {}
    assert (verdict.figures["cells"], verdict.figures["stages"]) == (4, 1 + 1 + 4 + 4)


def test_toy_cells_outlive_full_disks_and_damage(tmp_path):
    verdict = disk.drill(tmp_path, lambda text: None, toy_cells.start, first=0.1)
    assert {name: broken for name, broken in verdict.promises.items() if broken} == {}
    assert verdict.skipped or verdict.figures["full disks"] > 2


@pytest.mark.slow
def test_toy_cells_outlive_an_mlflow_that_is_down_slow_refuses_or_is_locked(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setattr(track, "BUSY_SECONDS", 1.0)
    verdict = mlflow.drill(tmp_path, lambda text: None, toy_cells.start, slow=2.0)
    assert {name: broken for name, broken in verdict.promises.items() if broken} == {}
    assert set(verdict.promises) == {mlflow.GOES_ON, mlflow.EQUAL, mlflow.LEVEL}


def drill(capsys, *words: str) -> dict:
    status = main(["drill", *words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] is (status == 0)
    assert {name: broken for name, broken in told["promises"].items() if broken} == {}
    return told


@pytest.mark.slow
def test_kills_lose_nothing(capsys):
    told = drill(capsys, "kill", "--times", "3")
    assert told["figures"]["kills"] == sum(told["figures"]["at"].values()) == 3
    assert len(told["promises"]) == 4


@pytest.mark.slow
def test_a_crowd_makes_each_stage_once_and_outlives_a_killed_owner(capsys):
    told = drill(capsys, "crowd", "--processes", "3")
    assert told["figures"]["cells"] == 3
    assert len(told["promises"]) == 5


@pytest.mark.slow
def test_full_disks_and_damaged_files_are_named_and_mended(tmp_path):
    warm_up()
    verdict = disk.drill(tmp_path, lambda text: None, first=20.0)
    assert {name: broken for name, broken in verdict.promises.items() if broken} == {}
    assert verdict.figures["damaged files"] == 3
    assert verdict.skipped or verdict.figures["full disks"] > 1
