"""A table's cells in one process: shared stages once, failures as rows, and nothing twice."""

from __future__ import annotations

import json

import pytest

from polm_bench.cli import main
from polm_bench.cli.remaining import duration
from polm_bench.cli.sweep import sweep
from polm_bench.errors import UnknownName
from polm_bench.report.records import load
from polm_bench.report.sharing import sharing


def cells(toy_model, *recipes, seeds=(0,)):
    place = [f"model.path={toy_model}", "budget=smoke", "suite=smoke", "track=none"]
    return [[f"+recipe={recipe}", "model=path", *place, f"seed={seed}"] for seed in seeds for recipe in recipes]


def test_a_table_whose_every_cell_is_mistaken_says_so_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_HOME", str(tmp_path))
    with pytest.raises(UnknownName, match="no recipe named 'nope'"):
        sweep([["+recipe=nope"]])
    with pytest.raises(UnknownName, match=r"no launch named 'slurmm'\. Did you mean slurm"):
        sweep([["+recipe=dpo"]], launch=["slurmm"])
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_cells_share_stages_go_on_after_a_mistake_and_are_run_once(toy_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POLM_HOME", str(tmp_path))
    wanted = [*cells(toy_model, "sft"), ["+recipe=nope"], *cells(toy_model, "dpo")]
    first = sweep(wanted)
    assert [json.loads(path.read_text())["status"] for path in first.records] == ["ok", "ok"]
    assert [line[:12] for line in first.mistakes] == ["+recipe=nope"]
    shared = sharing(load(tmp_path / "records"))
    assert shared.run < shared.asked  # the base is evaluated once
    told = capsys.readouterr().err
    assert "cell 1 of 2: sft seed 0; 0 of" in told
    assert "to go" in told.partition("cell 2 of 2: dpo seed 0")[2]
    written = {path: path.stat().st_mtime_ns for path in first.records}
    again = sweep(wanted)
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in again.records} == written
    assert "this run made 0 in" in capsys.readouterr().err
    matrix = ["plan", "-m", "+recipe=sft,dpo,simpo", "model=path", *cells(toy_model, "sft")[0][2:], "--json"]
    trained = next((tmp_path / "store").glob("TrainSFT-*"))
    trained.rename(tmp_path / "kept")
    assert main([*matrix[:2], "+recipe=sft,dpo", *matrix[3:]]) == 0
    assert planned(capsys)["missing"] == 0  # what was trained from it is there
    (tmp_path / "kept").rename(trained)
    assert main(matrix) == 0
    told = planned(capsys)
    assert [cell["record"] is not None for cell in told["cells"]] == [True, True, False]
    assert [stage["kind"] for stage in told["stages"] if stage["missing"]] == ["TrainPairs", "Evaluate"]
    assert told["seconds"] > 0


def planned(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_two_cells_at_a_time_leave_the_records_of_one_at_a_time(toy_model, tmp_path, monkeypatch, capsys):
    wanted = [*([*words, "launch.threads=1"] for words in cells(toy_model, "dpo", "simpo")), ["+recipe=nope"]]
    scores = []
    for jobs in (1, 2):
        monkeypatch.setenv("POLM_HOME", str(tmp_path / str(jobs)))
        swept = sweep(wanted, jobs)
        records = [json.loads(path.read_text()) for path in swept.records]
        assert [record["status"] for record in records] == ["ok", "ok"]
        assert [line[:12] for line in swept.mistakes] == ["+recipe=nope"]
        scores.append([[(score["task"], score["value"]) for score in record["scores"]] for record in records])
    assert "cell 2 of 2: " in capsys.readouterr().err
    trained = [path for path in (tmp_path / "2" / "store").iterdir() if path.name.startswith("TrainSFT")]
    assert len(trained) == 1  # by whichever came first
    assert scores[0] == scores[1]


def test_durations_read_well():
    assert [duration(seconds) for seconds in (42, 720, 6000)] == ["42 s", "12 min", "1 h 40 min"]
