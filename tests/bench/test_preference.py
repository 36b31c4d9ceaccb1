"""The comparison of preference trainers: what it measures, and that both sides train the same."""

from __future__ import annotations

import json
import math

import pytest

from polm_bench.bench.preference import LENGTHS, Compared, Task, compare, reached, summarise
from polm_bench.cli import main


def figures(pairs: float, peak: float, losses: list[float], split: float = 1.0) -> dict:
    return {
        "pairs_per_second": pairs,
        "pairs_per_second_with_reference": pairs / 2,
        "cpu_seconds_per_pair": 1 / pairs,
        "peak_bytes": peak,
        "baseline_bytes": 1.0,
        "tokens_per_pair": 40.0,
        "flops_per_pair": 1e9,
        "split": {"forward": split},
        "losses": losses,
    }


def test_ratios_are_those_of_medians_over_the_rounds():
    runs = {
        "ours": [figures(3.0, 60.0, [0.7, 0.6]), figures(6.0, 30.0, [0.7, 0.6]), figures(100.0, 31.0, [0.7, 0.6])],
        "trl": [figures(2.0, 40.0, [0.7, 0.6]), figures(1.0, 41.0, [0.7, 0.6]), figures(4.0, 62.0, [0.7, 0.6])],
    }
    found = summarise("tiny", "short", runs)
    assert found.ratios["ours"]["throughput"] == 3.0
    assert found.ratios["ours"]["memory"] == 31 / 41
    assert reached(found) == {"throughput": True, "memory": False, "losses": True}


def test_a_loss_that_differs_is_seen_at_any_step():
    runs = {"ours": [figures(1, 1, [0.7, 0.6, 0.5])], "trl": [figures(1, 1, [0.7, 0.600012, 0.5])]}
    found = summarise("tiny", "short", runs)
    assert found.loss_difference == pytest.approx(2e-5, rel=1e-3)
    assert not reached(found)["losses"]


def test_pairs_have_the_lengths_that_were_asked_for():
    from polm_bench.bench.side import make_rows

    rows = make_rows(LENGTHS["long"], 512, seed=0)
    prompts = [len(row["first"]) - row["first_len"] for row in rows]
    assert 160 <= min(prompts) < 200 < 250 < max(prompts) <= 288
    assert all(24 <= row[side] <= 48 for row in rows for side in ("first_len", "second_len"))
    assert all(row["first"][:160] == row["second"][:160] for row in rows)
    assert rows == make_rows(LENGTHS["long"], 512, seed=0) != make_rows(LENGTHS["long"], 512, seed=1)


def test_an_unknown_side_is_told_with_what_there_is(capsys):
    assert main(["bench", "preference", "--sides", "thiers"]) == 2
    assert "thiers" in capsys.readouterr().err


@pytest.mark.slow
def test_both_sides_train_the_same(capsys):
    sides = ["ours", "trl"]
    tasks = [Task(side=side, model="tiny", lengths="short", batch=4, steps=2, warm=1, threads=1) for side in sides]
    said: list[str] = []
    (found,) = compare(tasks, 1, said.append)
    assert isinstance(found, Compared)
    assert len(said) == 2
    losses = [one["losses"] for one in found.sides.values()]
    assert losses[0][0] == pytest.approx(math.log(2), rel=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][0] != losses[0][-1], "training should show"
    assert found.ratios["ours"]["tokens"] < 0.4  # a third for the reference, and the prompt once
    assert all(math.isfinite(value) and value > 0 for value in found.ratios["ours"].values())
    for one in found.sides.values():
        assert min(one["split"].values()) >= 0
        timed = 4 * 2 / one["pairs_per_second"]
        assert sum(one["split"].values()) * 2 / 1000 == pytest.approx(timed)
    assert found.sides["ours"]["split"]["reference"] == 0 < found.sides["trl"]["split"]["reference"]
    assert json.loads(json.dumps(found._asdict()))["model"] == "tiny"
