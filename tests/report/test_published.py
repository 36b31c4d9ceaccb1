"""Published figures: read as data, found among records by their cell, and judged by two one-sided tests."""

from __future__ import annotations

import csv
import io
import json

import pytest
import yaml
from tests.report.conftest import make_spec
from tests.report.synthetic import write_record

from polm_bench.cli.app import main
from polm_bench.errors import BadData, PolmError, UnknownName
from polm_bench.paths import conf_dir
from polm_bench.report.page import render
from polm_bench.report.published import chosen, of_cell, publications, read_publication, references
from polm_bench.report.records import load
from polm_bench.report.reproduced import reproduced_page

PUBLICATIONS = publications(conf_dir())
CELLS = sorted({one.cell for found in PUBLICATIONS.values() for one in references(found) if one.cell is not None})
OVERVIEW = conf_dir().parent / "results" / "overview" / "records"


def planted(folder, figures, **changes):
    """A file of figures of `base`, `quantity: (printed, margin)`; the metrics are those of the nano suite."""
    content = {
        "name": "planted",
        "title": "Planted",
        "source": "this test",
        "setting": "nano",
        "cell": ["model=nano", "data=nano", "budget=nano", "suite=nano"],
        "quantities": {name: {"metric": metric, "margin": margin} for name, (metric, _, margin) in figures.items()},
        "rows": [
            {"method": "Base", "cell": ["+recipe=base"], "figures": {name: told[1] for name, told in figures.items()}}
        ],
    }
    path = folder / "planted.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def base_score(task, metric):
    record = next(one for one in load(OVERVIEW) if one.cell["recipe"] == "base")
    return next(s for s in record.scores if s["row"] == "self" and (s["task"], s["metric"]) == (task, metric))


def test_planted_references_beside_real_records_are_told_apart(tmp_path, capfd):
    """Ours is a share p of 500 items, so its error is about 0.02: a margin of 0.06 holds three of them, one of 0.01 half of one."""
    p = base_score("nano_arithmetic", "exact_match")["value"]
    metric = "nano_arithmetic/exact_match"
    path = planted(tmp_path, {"equal": (metric, p, 0.06), "far": (metric, p + 0.3, 0.06), "fine": (metric, p, 0.01)})
    assert main(["table", "overview", "--against", str(path), "--records", str(OVERVIEW), "--json"]) == 0
    found = {one["figure"]: one for one in json.loads(capfd.readouterr().out)["figures"]}
    verdicts = {name: one["verdict"] for name, one in found.items()}
    assert verdicts == {"equal": "reproduced", "far": "differs", "fine": "cannot tell"}
    n = base_score("nano_arithmetic", "exact_match")["n"]
    assert found["equal"]["ours_error"] == pytest.approx((p * (1 - p) / n) ** 0.5, rel=0.01)
    assert found["far"]["difference"] == pytest.approx(-0.3, abs=1e-5)


def test_an_error_of_theirs_widens_the_interval(tmp_path):
    p = base_score("nano_arithmetic", "exact_match")["value"]
    metric = "nano_arithmetic/exact_match"
    alone = read_publication(planted(tmp_path, {"a": (metric, p, 0.06)}))
    spread = read_publication(
        planted(
            tmp_path,
            {"a": (metric, p, 0.06)},
            rows=[{"method": "Base", "cell": ["+recipe=base"], "figures": {"a": [p, 0.05]}}],
        )
    )
    rows = [reproduced_page("x", references(one), load(OVERVIEW)).rows[0] for one in (alone, spread)]
    assert rows[1]["theirs_error"] == 0.05
    assert rows[1]["high"] - rows[1]["low"] > 2 * (rows[0]["high"] - rows[0]["low"])
    assert [row["verdict"] for row in rows] == ["reproduced", "cannot tell"]


def test_a_counted_cost_is_compared_exactly(tmp_path):
    counted = next(one for one in load(OVERVIEW) if one.cell["recipe"] == "lora").data["cost"]["trainable_params"]
    row = {
        "method": "LoRA",
        "cell": ["+recipe=lora"],
        "figures": {"right": counted / 1e6, "wrong": counted / 1e6 * 1.02},
    }
    quantity = {"metric": "trainable_params", "scale": 1e6, "margin": 0.01, "relative": True}
    path = planted(tmp_path, {}, quantities={"right": quantity, "wrong": quantity}, rows=[row])
    page = reproduced_page("x", references(read_publication(path)), load(OVERVIEW))
    assert [one["verdict"] for one in page.rows] == ["reproduced", "differs"]


def test_a_cell_without_a_record_says_so(tmp_path):
    path = planted(
        tmp_path,
        {"a": ("nano_arithmetic/exact_match", 0.5, 0.1)},
        cell=["model=nano", "data=nano", "budget=paper", "suite=nano"],
    )
    page = reproduced_page("x", references(read_publication(path)), load(OVERVIEW))
    assert [one["verdict"] for one in page.rows] == ["no record yet"]
    assert page.rows[0]["cell"] == "polm-bench run model=nano data=nano budget=paper suite=nano +recipe=base"


def test_a_changed_setting_is_another_cell(tmp_path):
    changed = {"recipe.lr": "command line"}
    write_record(tmp_path, "dpo", 0)
    plain = ["+recipe=dpo", "model=nano", "data=nano", "budget=nano", "suite=nano"]
    assert [one.cell["seed"] for one in of_cell(load(tmp_path), plain)] == [0]
    path = next(tmp_path.glob("*.json"))
    record = json.loads(path.read_text())
    record["cell"]["origins"] = changed
    path.write_text(json.dumps(record))
    assert of_cell(load(tmp_path), plain) == []
    assert len(of_cell(load(tmp_path), [*plain, "recipe.lr=1.0e-6"])) == 1
    assert of_cell(load(tmp_path), [*plain, "recipe.lr=2.0e-6"]) == []


def test_all_seeds_of_a_cell_stand_beside_a_figure(tmp_path, spine):
    path = planted(
        tmp_path,
        {"a": ("arithmetic/exact_match", 0.9, 0.1)},
        rows=[{"method": "DPO", "cell": ["+recipe=dpo"], "figures": {"a": 0.9}}],
    )
    page = reproduced_page("x", references(read_publication(path)), load(spine))
    assert page.rows[0]["seeds"] == 3
    assert "their error is not told" in page.rows[0]["why"]


@pytest.mark.parametrize("style", ["md", "csv", "latex", "html", "json"])
def test_equal_records_give_equal_bytes(tmp_path, style):
    path = planted(tmp_path, {"a": ("nano_arithmetic/exact_match", 0.2, 0.05)})
    texts = [render(reproduced_page("x", references(read_publication(path)), load(OVERVIEW)), style) for _ in range(2)]
    assert texts[0] == texts[1]
    assert "planted" in texts[0]


def test_the_csv_has_a_line_per_figure(capfd):
    assert main(["table", "simpo_gemma", "--against", "published", "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert len(lines) == 12
    assert {line["verdict"] for line in lines} == {"no record yet"}


def test_a_table_without_published_figures_says_what_there_is():
    with pytest.raises(PolmError, match="simpo_readme"):
        chosen("published", "spine", make_spec(), conf_dir())


def test_an_unknown_name_offers_tables_and_publications():
    with pytest.raises(UnknownName, match="peft_metamath"):
        chosen("published", "peft_metamat", None, conf_dir())


def test_saving_and_comparing_is_refused(capfd):
    assert main(["table", "overview", "--against", "published", "--save"]) == 2
    assert "--save" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": [{"method": "Base", "figures": {"a": 1.0}}]}, "why"),
        ({"rows": [{"method": "Base", "figures": {"b": 1.0}, "why": "x"}]}, "does not list"),
        ({"cell": ["model=nano"]}, "does not say data"),
        ({"quantities": {"a": {"margin": 0.1}}}, "has no metric"),
        ({"sources": "x"}, "sources"),
    ],
)
def test_a_faulty_file_is_named_with_its_row(tmp_path, changes, said):
    path = planted(tmp_path, {"a": ("nano_arithmetic/exact_match", 0.5, 0.1)}, **changes)
    with pytest.raises(BadData, match=said):
        read_publication(path)


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_a_publication_says_where_its_figures_stand_and_how_close_is_close(name):
    found = PUBLICATIONS[name]
    assert found.name == name
    assert found.source
    assert found.setting
    for one in references(found):
        assert (one.quantity.metric is None) == (one.margin == 0) or one.value == 0


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_the_cells_of_published_figures_compose(cell):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert compose("run", overrides=list(cell)).recipe.meta.title
