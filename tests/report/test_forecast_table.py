"""The table of forecasts, from the published records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from tests.report.conftest import make_spec

from polm_bench.cli.planning import forecast_table
from polm_bench.paths import conf_dir
from polm_bench.report.forecast import MEMORY, SECONDS, Looked, error, forecast_page
from polm_bench.report.page import render
from polm_bench.report.publish import save
from polm_bench.report.spec import load_spec

RESULTS = Path(__file__).parents[2] / "results"


def looked(kind="TrainSFT", seconds=10.0, expected=None, basis=None, memory=1e9, foreseen=None) -> Looked:
    return Looked("cell", "key", kind, seconds, expected, basis, memory, foreseen, basis)


def test_an_error_is_relative_to_what_was_taken_and_what_was_not_foretold_has_none():
    looks = [looked(seconds=10, expected=12), looked(seconds=20, expected=10), looked(seconds=1)]
    assert error(looks, SECONDS) == (2, pytest.approx(0.35), pytest.approx(22 / 30))
    assert error(looks, MEMORY) is None


def test_the_page_has_all_stages_then_each_basis_then_the_kinds_by_what_they_took():
    looks = [
        looked("Evaluate", 100, 110, "like stages"),
        looked("TrainSFT", 300, 150, "counted"),
        looked("FetchModel", 5),
    ]
    page = forecast_page(make_spec(name="forecast"), looks, unread=2)
    lines = page.parts[0].sheets[0].lines
    names = ["all", "by like stages", "by counting", "of a kind", "TrainSFT", "Evaluate", "FetchModel"]
    assert [line[0] for line in lines] == names
    assert [line[4] for line in lines if len(line) > 1] == ["30.0%", "10.0%", "50.0%", "50.0%", "10.0%", ""]
    assert "2 records have settings that this version does not know" in page.parts[0].title
    assert [row["kind"] for row in csv.DictReader(io.StringIO(render(page, "csv")))] == [one.kind for one in looks]
    assert json.loads(render(page, "json"))["groups"]["TrainSFT"]["seconds"]["median"] == 0.5


@pytest.fixture(scope="module")
def published():
    spec = load_spec(conf_dir(), "forecast")
    return spec, forecast_table(spec, RESULTS / "five_paradigms" / "records")


@pytest.mark.slow
def test_on_the_published_records_the_median_error_is_under_thirty_percent(published):
    groups = published[1].page.content["groups"]
    assert groups["all"]["seconds"]["median"] < 0.3
    assert groups["all"]["seconds"]["stages"] > 0.9 * groups["all"]["number"]
    assert groups["all"]["memory"]["median"] < 0.3
    assert published[1].page.content["unread"] == 0


@pytest.mark.slow
def test_the_published_table_of_forecasts_is_what_its_records_make(published, tmp_path):
    spec, made = published
    again = save(spec, made.page, (), tmp_path)
    for path in again.glob("forecast.*"):
        assert path.read_bytes() == (RESULTS / "forecast" / path.name).read_bytes(), path.name
