"""A plan tells what would run, of one cell or of a matrix, and writes nothing."""

from __future__ import annotations

import json

import pytest

from polm_bench.cli import main
from polm_bench.config import cells


@pytest.fixture
def planned(capsys):
    """Runs `plan` with these words; gives what it printed."""

    def call(*words: str) -> str:
        assert main(["plan", *words]) == 0
        return capsys.readouterr().out

    return call


def test_a_matrix_is_the_union_of_its_cells(planned, home):
    told = json.loads(planned("-m", "+recipe=dpo,simpo", "seed=0,1", "--json"))
    alone = [
        json.loads(planned(f"+recipe={recipe}", f"seed={seed}", "--json"))
        for recipe in ("dpo", "simpo")
        for seed in (0, 1)
    ]
    assert [cell["id"] for cell in told["cells"]] == [one["id"] for one in alone]
    assert [cell["stages"] for cell in told["cells"]] == [[stage["key"] for stage in one["stages"]] for one in alone]
    keys = [stage["key"] for one in alone for stage in one["stages"]]
    assert {stage["key"]: stage["cells"] for stage in told["stages"]} == {key: keys.count(key) for key in keys}
    assert told["missing"] == len(told["stages"]) < len(keys)
    assert not home.exists()


def test_a_matrix_is_one_table_with_a_line_for_each_kind_of_stage(planned, home):
    first, head, *lines, last = planned("+recipe=dpo,simpo", "-m", "seed=0,1").splitlines()
    assert first == "4 cells, 0 of them with a record"
    assert head.split()[:5] == ["stage", "different", "shared", "done", "missing"]
    rows = {line.split()[0]: line.split()[1:5] for line in lines}
    assert rows["FetchModel"] == ["1", "1", "0", "1"]
    assert rows["TrainSFT"] == ["2", "2", "0", "2"]  # one a seed, for both methods
    assert rows["TrainPairs"] == ["4", "0", "0", "4"]
    assert rows["all"] == [
        str(sum(int(row[place]) for kind, row in rows.items() if kind not in ("all", "The"))) for place in range(4)
    ]
    assert last == f"{rows['all'][0]} of {rows['all'][0]} stages to run."
    assert not home.exists()


def test_a_matrix_composes_each_cell_once_and_in_the_order_of_its_words(monkeypatch):
    import hydra

    composed: list[list[str]] = []
    compose = hydra.compose

    def counted(name, overrides, **options):
        composed.append(overrides)
        return compose(name, overrides=overrides, **options)

    monkeypatch.setattr(hydra, "compose", counted)
    found = cells(["-m", "+recipe=glob(simp*)", "suite=smoke", "seed=range(0,2)"])
    assert [list(cell.overrides) for cell in found] == composed
    assert [(cell.names["recipe"], cell.seed) for cell in found] == [("simpo", 0), ("simpo", 1)]
