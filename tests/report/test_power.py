from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.report.synthetic import make_record, write_json

from polm_bench.report.page import render
from polm_bench.report.power import forecasts, power_page
from polm_bench.report.records import load


def test_a_suite_says_what_it_can_show(spine):
    found = {one.column: one for one in forecasts(load(spine), 0.05, 0.8)}
    assert set(found) == {"arithmetic/exact_match", "instructions/prompt_acc", "steering/reward", "text/bits_per_byte"}
    one = found["arithmetic/exact_match"]
    assert (one.items, one.methods) == (120, 5)
    assert list(one.visible.values()) == sorted(one.visible.values(), reverse=True)  # more seeds see smaller things
    assert list(one.power_now.values()) == sorted(one.power_now.values())
    assert found["text/bits_per_byte"].per_cluster == 3.0
    page = power_page(list(found.values()), 0.05, 0.8)
    assert "seen at 3 seeds" in render(page, "md")
    assert json.loads(render(page, "json"))["scores"][0]["power"] == 0.8


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--effect", "-1"], "--effect -1.0: a difference to be seen is above zero"),
        (["--effect", "0.02", "--power", "2"], "--power 2.0: a chance"),
        (["--effect", "0.02"], "has two seeds beside the base"),
    ],
)
def test_what_the_planner_cannot_answer_it_says(tmp_path, words, told):
    write_json(tmp_path, make_record("dpo"))
    command = [sys.executable, "-m", "polm_bench", "power", *words, "--records", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
