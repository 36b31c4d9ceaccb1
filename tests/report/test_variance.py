from __future__ import annotations

import csv
import io
import json
import shutil

import pytest
from tests.report.synthetic import key_of, make_record, write_record

from polm_bench.cli import main
from polm_bench.report.page import render
from polm_bench.report.records import load
from polm_bench.report.variance import splits, variance_page


def asked_again(folder, recipe: str, seed: int, decoding: int) -> None:
    """A record of the same model whose answers were drawn with another seed."""
    plain = make_record(recipe, seed)
    cell = plain["cell"] | {
        "config": plain["cell"]["config"] | {"suite": {"seed": decoding}},
        "origins": plain["cell"]["origins"] | {"suite.seed": "command line"},
    }
    rows = {row: key_of(key, decoding) for row, key in plain["rows"].items()}
    write_record(folder, recipe, seed, cell=cell, rows=rows, id=f"{plain['id']}{decoding}")


@pytest.fixture
def records(spine, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(spine, folder)
    for seed in (0, 1):
        asked_again(folder, "dpo", seed, 1)
    asked_again(folder, "dpo", 0, 2)
    return folder


def test_methods_are_split_by_as_many_seeds_and_decodings_as_lie_without_gaps(records):
    found = {(one.recipe, one.column): one for one in splits(load(records))}
    dpo = found["dpo", "arithmetic/exact_match"]
    assert (dpo.seeds, dpo.decodings, dpo.items) == (2, 2, 120)
    assert min(dpo.found) >= 0
    assert dpo.found.decoding > 0
    simpo = found["simpo", "arithmetic/exact_match"]
    assert (simpo.seeds, simpo.decodings, simpo.found.decoding) == (3, 1, None)
    assert ("base", "arithmetic/exact_match") not in found  # one model, however many seeds name it
    assert {recipe for recipe, _ in found} == {"sft", "lora", "dpo", "simpo", "kto"}
    assert {one.recipe for one in splits(load(records), ["dpo"])} == {"dpo"}


def test_the_page_shows_each_part_beside_its_share_of_the_whole(records):
    page = variance_page(splits(load(records), ["dpo", "kto"]))
    dpo, kto = page.parts[0].sheets
    assert (dpo.title, kto.title) == ("dpo (training seeds: 2, decodings: 2)", "kto (training seeds: 3, decodings: 1)")
    assert {line[-1] for line in kto.lines} == {""}
    row = next(row for row in page.rows if row["recipe"] == "dpo" and row["score"] == "steering/reward")
    parts = [row[f"{name}_variance"] for name in ("seed", "item", "both", "decoding")]
    line = next(line for line in dpo.lines if line[0] == "steering/reward")
    assert line[-1] == f"{parts[-1] ** 0.5:.3f} ({parts[-1] / sum(parts):.0%})"
    told = json.loads(render(page, "json"))["scores"]
    assert [one["decoding_variance"] for one in told if one["recipe"] == "dpo"] == pytest.approx(
        [row["decoding_variance"] for row in page.rows if row["recipe"] == "dpo"], rel=1e-4
    )
    assert len(list(csv.DictReader(io.StringIO(render(page, "csv"))))) == len(page.rows)


def test_what_cannot_be_split_is_said_with_how_to_get_it(tmp_path, capsys):
    write_record(tmp_path, "dpo", 0)
    assert main(["variance", "--records", str(tmp_path)]) == 2
    assert "suite.seed=1,2" in capsys.readouterr().err
    assert main(["variance", "simpo", "--records", str(tmp_path)]) == 2
    assert "no method of simpo in" in capsys.readouterr().err
