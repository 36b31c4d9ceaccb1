"""A table's cells in one process: shared stages once, failures as rows, and nothing twice."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pytest

from polm_bench.cli import main
from polm_bench.cli.remaining import duration
from polm_bench.cli.sweep import Swept, sweep
from polm_bench.errors import UnknownName
from polm_bench.report.records import load
from polm_bench.report.sharing import sharing


def cells(toy_model, *recipes, seeds=(0,)):
    place = [f"model.path={toy_model}", "budget=smoke", "suite=smoke", "track=none", "launch.threads=1"]
    return [[f"+recipe={recipe}", "model=path", *place, f"seed={seed}"] for seed in seeds for recipe in recipes]


def test_a_table_whose_every_cell_is_mistaken_says_so_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_HOME", str(tmp_path))
    with pytest.raises(UnknownName, match="no recipe named 'nope'"):
        sweep([["+recipe=nope"]])
    with pytest.raises(UnknownName, match=r"no launch named 'slurmm'\. Did you mean slurm"):
        sweep([["+recipe=dpo"]], launch=["slurmm"])
    assert not (tmp_path / "store").exists()


class InTurn(NamedTuple):
    """What a sweep of three cells, of which one is mistaken, left when it ran one at a time."""

    home: Path
    wanted: list[list[str]]
    swept: Swept
    told: str


@pytest.fixture(scope="module")
def in_turn(toy_model, tmp_path_factory):
    home, told = tmp_path_factory.mktemp("in_turn"), StringIO()
    wanted = [*cells(toy_model, "dpo"), ["+recipe=nope"], *cells(toy_model, "simpo")]
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(told):
        patch.setenv("POLM_HOME", str(home))
        return InTurn(home, wanted, sweep(wanted), told.getvalue())


@pytest.mark.slow
def test_cells_share_stages_go_on_after_a_mistake_and_are_run_once(toy_model, in_turn, tmp_path, monkeypatch, capsys):
    home, wanted, first, told = in_turn
    monkeypatch.setenv("POLM_HOME", str(home))
    assert [json.loads(path.read_text())["status"] for path in first.records] == ["ok", "ok"]
    assert [line[:12] for line in first.mistakes] == ["+recipe=nope"]
    shared = sharing(load(home / "records"))
    assert shared.run < shared.asked  # the base is evaluated once
    assert "cell 1 of 2: dpo seed 0; 0 of" in told
    assert "to go" in told.partition("cell 2 of 2: simpo seed 0")[2]
    written = {path: path.stat().st_mtime_ns for path in first.records}
    again = sweep(wanted)
    assert again.records == first.records
    assert {path: path.stat().st_mtime_ns for path in again.records} == written
    assert "this run made 0 in" in capsys.readouterr().err
    matrix = ["plan", "-m", "+recipe=dpo,simpo,ipo", "model=path", *cells(toy_model, "dpo")[0][2:], "--json"]
    trained = next((home / "store").glob("TrainSFT-*"))
    trained.rename(tmp_path / "kept")
    assert main([*matrix[:2], "+recipe=dpo,simpo", *matrix[3:]]) == 0
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
def test_two_cells_at_a_time_leave_the_records_of_one_at_a_time(in_turn, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POLM_HOME", str(tmp_path))
    swept = sweep(in_turn.wanted, 2)
    assert "cell 2 of 2: " in capsys.readouterr().err
    assert [line[:12] for line in swept.mistakes] == ["+recipe=nope"]
    assert len(list((tmp_path / "store").glob("TrainSFT-*"))) == 1  # by whichever came first
    told = [[json.loads(path.read_text()) for path in made.records] for made in (in_turn.swept, swept)]
    assert [record["status"] for record in told[1]] == ["ok", "ok"]
    one, two = ([[(s["task"], s["value"]) for s in record["scores"]] for record in records] for records in told)
    assert one == two


def test_durations_read_well():
    assert [duration(seconds) for seconds in (42, 720, 6000)] == ["42 s", "12 min", "1 h 40 min"]
