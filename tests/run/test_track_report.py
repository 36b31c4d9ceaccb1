"""A table's report in MLflow, and the error bars of the runs that it stands beside."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.run.to_mirror import record, runs, write

from polm_bench.run import track
from polm_bench.run.mirror import mean_over_seeds
from polm_bench.run.track_report import track_report
from polm_bench.stats import seed_difference

pytestmark = pytest.mark.slow  # MLflow takes seconds to import


def test_a_parent_has_the_mean_its_interval_and_the_number_of_seeds(tracked_home):
    for seed, value in enumerate((0.5, 0.7, 0.6)):
        track.track(write(tracked_home, record(seed, value)), tracked_home)
    [parent], _ = runs(tracked_home)
    expected = seed_difference([0.5, 0.7, 0.6])
    found = parent.data.metrics
    assert found["nano_add/acc"] == pytest.approx(0.6)
    assert [found[f"nano_add/acc/{bound}"] for bound in ("low", "high")] == pytest.approx([expected.low, expected.high])
    assert found["nano_add/acc/seeds"] == 3
    assert found["nano_add/acc/vs_base/low"] == pytest.approx(expected.low - 0.25)


def test_one_seed_has_no_interval_and_costs_have_none():
    found = mean_over_seeds(
        [{"t/acc": 0.5, "t/acc/n": 500.0, "t/acc/stderr": 0.1, "cost/flops": 1e12, "train/x/loss": 1.0}]
    )
    assert found == {"t/acc": 0.5, "t/acc/seeds": 1.0, "t/acc/n": 500.0, "cost/flops": 1e12}


def test_a_report_is_an_artifact_and_a_later_one_takes_its_place(tracked_home):
    for text in ("<p>first</p>", "<p>second</p>"):
        track_report("spine", "Six methods", {"spine.html": text, "spine.svg": "<svg/>"}, tracked_home)
    [run], _ = runs(tracked_home)
    place = Path(run.info.artifact_uri.removeprefix("file://"))
    assert run.info.run_name == "table spine"
    assert run.info.status == "FINISHED"
    assert (place / "spine.html").read_text() == "<p>second</p>"
    assert (place / "spine.svg").read_text() == "<svg/>"


def test_an_mlflow_that_is_down_costs_a_warning(tracked_home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    track_report("spine", "Six methods", {"spine.html": "<p></p>"}, tracked_home)
    assert "warning: MLflow did not take the report of table spine" in capsys.readouterr().err
