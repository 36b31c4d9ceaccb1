from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from tests.report.synthetic import write_record

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_records_and_is_kept_without_its_output(path, tmp_path, monkeypatch):
    for recipe in ("base", "sft", "dpo"):
        curves = [{"stage": "a", "kind": "TrainSFT", "points": [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}]}]
        write_record(tmp_path / "home" / "records", recipe, curves=curves)
    monkeypatch.setenv("POLM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    names: dict[str, object] = {}
    with mpl.rc_context({"backend": "agg"}):
        for cell in cells:
            exec("".join(cell["source"]), names)
    assert len(names["records"]) == 3
    assert names["table"].missing  # and the page of a table that is not whole


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_parses_no_file_of_its_own(path):
    text = path.read_text()
    assert not re.search(r"read_(?:json|csv|parquet)|json\.load|open\(", text)
