"""A stage that fails is a result: status 1, a record that says so, finished stages kept."""

from __future__ import annotations

import json

import pytest

from polm_bench.cli import main

pytestmark = pytest.mark.slow


def run(toy_model, *words: str) -> int:
    return main(["run", "+recipe=dpo", f"model.path={toy_model}", "budget=smoke", "suite=smoke", "track=none", *words])


def test_a_diverging_cell_leaves_a_record_with_reason_and_cost_and_keeps_what_was_done(toy_model, home, capsys):
    assert run(toy_model, "recipe.optim.lr=1e9", "recipe.optim.clip=1e9", "recipe.optim.warmup=0") == 1
    (path,) = (home / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["status"] == "diverged"
    assert "TrainPairs" not in {stage["kind"] for stage in record["stages"] if stage["status"] == "done"}
    assert record["reason"]
    assert record["scores"] == []
    failed = record["stages"][-1]
    assert (failed["kind"], failed["status"]) == ("TrainPairs", "failed")
    assert failed["ledger"]["tokens_trained"] > 0
    assert list((home / "store").glob("TrainSFT-*"))
    assert "diverged" in capsys.readouterr().out
    before = {folder: folder.stat().st_mtime for folder in (home / "store").glob("*-*")}
    assert run(toy_model) == 0
    assert all(folder.stat().st_mtime == made for folder, made in before.items())


def test_a_stage_that_runs_out_of_memory_is_recorded_as_oom(toy_model, home, monkeypatch):
    from polm_bench.stages import TrainSFT

    def hungry(self, job) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(TrainSFT, "run", hungry)
    assert run(toy_model) == 1
    record = json.loads(next((home / "records").glob("*.json")).read_text())
    assert (record["status"], record["reason"]) == ("oom", "MemoryError: Unable to allocate 9 TiB")
    assert record["rows"].keys() == {"base", "start", "self"}
