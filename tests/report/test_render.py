from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.text import Text
from rich.console import Console
from tests.refresh_results import RESULTS, published, rebuild
from tests.report.conftest import make_spec

from polm_bench.errors import UnknownName
from polm_bench.paths import conf_dir
from polm_bench.report import gains_plot, words
from polm_bench.report.facts import recipe_facts
from polm_bench.report.items import read_items
from polm_bench.report.plot import draw
from polm_bench.report.records import load
from polm_bench.report.render import page_of, print_table, render
from polm_bench.report.table import build, save

approx = pytest.approx
ROOT = Path(__file__).resolve().parents[2]
FORMATS = ("md", "csv", "latex", "html", "json")


@pytest.fixture(scope="module")
def table(spine):
    return build(make_spec(), load(spine))


@pytest.fixture(scope="module")
def saved(table, tmp_path_factory):
    """The table's published folder. Read it, don't write to it."""
    return publish(table, tmp_path_factory.mktemp("results"))


def publish(table, results):
    return save(table.spec, page_of(table), table.records, results)


def measure_of(table, recipe, column):
    return next(row for row in table.blocks[0].rows if row.name == recipe).measures[column]


def test_markdown_has_a_line_per_row_in_each_sheet_and_the_notes(table):
    text = render(table, "md")
    assert text.startswith("# Six methods\n")
    for sheet in ("Scores", "Difference from the base", "Ranks", "Cost"):
        assert f"**{sheet}**" in text
    measure = measure_of(table, "dpo", "arithmetic/exact_match")
    assert f"{measure.value:.3f} [{measure.low:.3f}, {measure.high:.3f}]" in text
    assert f"{measure.difference.mean:+.3f} [" in text


def test_scores_that_only_some_rows_have_stand_apart_with_those_rows(table):
    block = table.blocks[0]
    rare = block.columns[-1].name
    rows = [row if row.name == "dpo" else without(row, rare) for row in block.rows]
    text = render(replace(table, blocks=(replace(block, rows=tuple(rows)),)), "md")
    first, _, rest = text.partition("**Scores, of some methods**")
    apart = rest.partition("**Difference")[0]
    assert rare not in first
    assert rare in apart
    assert [line.split("|")[1].strip() for line in apart.splitlines() if "[" in line] == ["DPO"]


def without(row, column):
    ranks = {name: found for name, found in row.ranks.items() if name != column}
    return replace(row, measures={name: one for name, one in row.measures.items() if name != column}, ranks=ranks)


def test_methods_without_a_record_are_named_once_and_have_no_empty_lines(spine):
    facts = recipe_facts(conf_dir())
    text = render(build(make_spec(recipes=["dpo", "rloo", "cispo"]), load(spine), facts), "md")
    assert "- 6 cells have no record yet (all those of RLOO; CISPO): `polm-bench table spine --run` runs them." in text
    assert "3 missing" not in text
    assert "| RLOO" not in text


def test_the_names_in_a_crowded_plot_lie_apart_and_inside(table):
    figure, axes = plt.subplots(figsize=(4.2, 3.2))
    block, column = table.blocks[0], table.blocks[0].columns[0]
    beside = [replace(row, name=f"{row.name} {n}", title=f"{row.title} {n}") for row in block.rows for n in (1, 2)]
    draw(axes, table, replace(block, rows=tuple(beside)), column)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # an annotation's own counts the line to its point
    assert len(boxes) > 6
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    panel = axes.get_window_extent()
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)
    plt.close(figure)


def test_a_plot_has_one_legend_and_marks_with_units(table):
    block = table.blocks[0]
    rows = [replace(row, paradigm="fine_tuning") if row.name == "lora" else row for row in block.rows]
    text = page_of(replace(table, blocks=(replace(block, rows=tuple(rows)),))).drawings[0].svg()
    assert text.count(">Fine-tuning</text>") == 1
    assert re.search(r">\d+ [GT]</text>", text)  # FLOPs


def test_the_grid_of_gains_shows_each_difference_and_those_that_are_sure_in_bold(table):
    block = table.blocks[0]
    unsure = {name: replace(one, p_holm=0.3) for name, one in block_row(block, "kto").measures.items()}
    rows = tuple(replace(row, measures=unsure) if row.name == "kto" else row for row in block.rows)
    text = gains_plot.svg(replace(table, blocks=(replace(block, rows=rows),)))
    common = {column.name for column in block.parted()[0]}
    shown = [one for row in rows for name, one in row.measures.items() if name in common and one.difference]
    sure = [one for one in shown if one.p_holm < 0.05]
    assert 0 < len(sure) < len(shown)
    texts = re.findall(r'<text style="([^"]*)"[^>]*>([^<]*)</text>', text)
    figures = [(style, value) for style, value in texts if re.fullmatch(r"[+-]?\d+\.\d+", value)]
    assert sorted(value for _, value in figures) == sorted(
        words.number(one.difference.mean, sign=True) for one in shown
    )
    assert sum("font-weight: 700" in style for style, _ in figures) == len(sure)


def block_row(block, name):
    return next(row for row in block.rows if row.name == name)


def test_a_table_of_the_base_alone_has_no_grid_of_gains(table):
    alone = replace(
        table,
        blocks=tuple(
            replace(block, rows=tuple(row for row in block.rows if row.name == "base")) for block in table.blocks
        ),
    )
    assert not gains_plot.drawable(alone)
    assert [one.suffix for one in page_of(alone).drawings] == [""]


def test_a_table_that_asks_for_tuning_marks_the_rows_without(spine):
    text = render(build(make_spec(trials=8), load(spine)), "md")
    assert "- [a] untuned: 1 of 8 trials of its settings" in text


def test_csv_holds_the_figures_as_numbers(table):
    lines = {line["recipe"]: line for line in csv.DictReader(io.StringIO(render(table, "csv")))}
    measure = measure_of(table, "kto", "text/bits_per_byte")
    assert float(lines["kto"]["text/bits_per_byte"]) == approx(measure.value, rel=1e-5)
    assert float(lines["kto"]["text/bits_per_byte.difference_high"]) == approx(measure.difference.high, rel=1e-5)
    assert lines["base"]["text/bits_per_byte.p_holm"] == ""
    assert lines["kto"]["cost.wall_seconds"] == "81"


def test_json_holds_the_same(table):
    content = json.loads(render(table, "json"))
    row = next(row for row in content["blocks"][0]["rows"] if row["recipe"] == "dpo")
    measure = measure_of(table, "dpo", "steering/reward")
    assert row["scores"]["steering/reward"]["value"] == approx(measure.value, rel=1e-5)
    assert row["cells"] == {"ok": 3}
    assert len(row["records"]) == 3


def test_latex_uses_booktabs_and_escapes(table):
    text = render(table, "latex")
    assert r"\toprule" in text
    assert r"exact\_match $\uparrow$" in text
    assert "↑" not in text


def test_html_is_one_page_that_loads_nothing(table):
    text = render(table, "html")
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("<table>") == 6  # and two of where the records come from
    assert not re.search(r'(?:src|href)="(?!#)', text.replace("xlink:href", "href"))


def test_an_unknown_format_is_answered_with_those_there_are(table):
    with pytest.raises(UnknownName, match=r"no format named 'xlsx'\. There is: csv, html, json, latex, md"):
        render(table, "xlsx")


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_shows_every_score_at_any_width(table, width):
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(table, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for row in table.blocks[0].rows:
        for measure in row.measures.values():
            assert words.interval(measure.low, measure.high) in text


def test_equal_records_give_equal_bytes_in_another_process(spine, table):
    code = (
        "import hashlib, sys\nfrom pathlib import Path\n"
        "from polm_bench.report.records import load\nfrom polm_bench.report.render import render\n"
        "from polm_bench.report.table import build\nfrom tests.report.conftest import make_spec\n"
        f"table = build(make_spec(), load(Path({str(spine)!r})))\n"
        f"print([hashlib.sha256(render(table, style).encode()).hexdigest() for style in {FORMATS!r}])\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == str([hashlib.sha256(render(table, style).encode()).hexdigest() for style in FORMATS])


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_saved_table_is_rebuilt_from_its_own_records_byte_for_byte(saved, tmp_path):
    names = {"spine.md", "spine.csv", "spine.svg", "spine-gains.svg", "reproduce.sh"}
    assert {name for name in content_of(saved) if "/" not in name} == names
    assert len(list((saved / "records").glob("*.json"))) == 18
    again = publish(build(make_spec(), load(saved / "records")), tmp_path)
    assert content_of(again) == content_of(saved)


def test_saving_in_place_drops_older_records_of_its_cells_and_items_that_nobody_names(table, saved, tmp_path):
    saved = shutil.copytree(saved, tmp_path / "spine")
    before = content_of(saved)
    path = next((saved / "records").glob("dpo-*-s0-*.json"))
    (saved / "records" / f"{path.stem[:-12]}000000000000.json").write_bytes(path.read_bytes())
    other = saved / "records" / path.name.replace("dpo-", "of_a_reader-")
    other.write_bytes(path.read_bytes())
    items = next((saved / "records" / "items").glob("[!a]*.parquet"))
    shutil.copy(items, items.with_name("000000000000.parquet"))
    publish(build(table.spec, load(saved / "records")), saved.parent)
    assert content_of(saved) == before | {str(other.relative_to(saved)): path.read_bytes()}


def test_published_items_read_as_they_were_and_are_smaller(spine, saved):
    own, copies = load(spine), load(saved / "records")
    for record, copy in zip(own, copies, strict=True):
        assert copy.items("self").equals(record.items("self").select(copy.items("self").column_names))
        first, second = (read_items(one.items_path("base")) for one in (record, copy))
        for name, items in first.items():
            assert all((a == b).all() for a, b in zip(items, second[name], strict=True))
    sizes = [sum(path.stat().st_size for path in (folder / "items").iterdir()) for folder in (spine, saved / "records")]
    assert sizes[1] < sizes[0] / 2


def test_the_script_that_reproduces_a_table_runs_and_publishes_it(saved):
    subprocess.run(["sh", "-n", saved / "reproduce.sh"], check=True)
    text = (saved / "reproduce.sh").read_text()
    assert "the 18 cells of the table 'spine'" in text
    assert "polm-bench table spine --run --save\n" in text


def test_every_table_whose_records_are_published_is_published_and_no_other():
    assert sorted(path.name for path in RESULTS.iterdir()) == published()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in published() if name != "forecast"])  # see test_forecast_table
def test_every_published_table_is_what_its_records_make(name, tmp_path):
    again, there = content_of(rebuild(name, tmp_path)), content_of(RESULTS / name)
    assert set(again) <= set(there)
    assert all(file.startswith("records/") for file in there.keys() - again.keys())  # those that other tables read
    for file, content in again.items():
        assert there[file] == content, f"{file}: python tests/refresh_results.py {name}"


def test_reports_load_no_model_library_and_no_pandas():
    code = (
        "import sys\nimport polm_bench.report.table, polm_bench.report.render, polm_bench.report.console\n"
        "import polm_bench.report.compare\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out == "[]\n"


def test_numbers_read_well():
    assert words.number(0.12345) == "0.123"
    assert words.number(-0.0001, sign=True) == "0.000"
    assert words.number(123.456) == "123.5"
    assert words.p_value(0.0004) == "p < 0.001"
    assert words.cost("served_bytes", 7_100_000) == "7.1 MB"
    assert words.cost("wall_seconds", 83.21) == "83.2 s"
    assert words.cost("wall_seconds", 1500) == "25.0 min"
    assert words.cost("tokens_trained", 412_345) == "412 k"
    assert words.cost("flops", 8.4e12) == "8.40e+12"
    assert words.cost("flops", None) == ""
