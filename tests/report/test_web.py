"""The page in a browser: what a reader can do with it, and what a model's answer can't."""

from __future__ import annotations

import html as escapes
import json
import re
from pathlib import Path

import pytest
from tests.report.browser import CHROMIUM, browse, driven
from tests.report.conftest import make_spec
from tests.report.synthetic import SKILL, items_of, make_record, scores_of, stage, write_items, write_json, write_spine

from polm_bench.cli import main
from polm_bench.paths import conf_dir
from polm_bench.report import page as pages
from polm_bench.report.page import Page, Part, Sheet
from polm_bench.report.records import load
from polm_bench.report.render import render
from polm_bench.report.spec import load_spec
from polm_bench.report.table import build, make
from polm_bench.report.web import html

EVIL = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
ARITHMETIC = "arithmetic/exact_match"
BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Six recipes, three seeds; DPO was tuned, KTO has other axes than DPO, and SFT answered with markup."""
    folder = write_spine(tmp_path_factory.mktemp("web") / "records")
    for path in folder.glob("*.json"):
        record = json.loads(path.read_text())
        if record["cell"]["recipe"] in ("base", "sft"):
            record["recipe"] |= {"paradigm": "baseline" if record["cell"]["recipe"] == "base" else "fine_tuning"}
        if record["cell"]["recipe"] in ("dpo", "kto"):
            record["recipe"]["axes"] = {
                "survey": {"F": "human"},
                "ours": {"arity": "pair" if "dpo" in path.name else "single"},
            }
        if record["cell"]["recipe"] == "dpo":
            told = [{"trials": k, "best": 0.5, "expected": 0.4 + k / 10, "spread": 0.05} for k in (1, 2, 3)]
            record["tuning"] = {"trials": 3, "by": "pairs", "chosen": {"loss.beta": 0.1}, "best_after": told}
            record["stages"].insert(1, stage("TrainPairs", record["cell"]["seed"], False, 30.0))
        path.write_text(json.dumps(record))
    write_evil(folder)
    return build(make_spec(grouped=True, trials=3), load(folder))


def write_evil(folder: Path) -> None:
    record = make_record("sft", 0)
    record["recipe"] |= {"title": "SFT <b>bold</b>", "paradigm": "fine_tuning"}
    for row, key in record["rows"].items():
        items = items_of(SKILL["sft" if row == "self" else "base"], 0.0, int(key, 16) % 2**31, 120)
        items = [item | {"output": EVIL} for item in items]
        record["items"][row] = write_items(folder, f"{key}ff", items)
        record["scores"] += scores_of(row, items)
    record["provenance"]["finished"] = "2026-11-20T11:00:00+00:00"
    write_json(folder, record)


@pytest.fixture(scope="module")
def page(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(render(table, "html"), encoding="utf-8")
    return path


def charts(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


def told(page: Path, tmp_path: Path, script: str):
    browsed = browse(driven(page, script), tmp_path / "profile")
    assert browsed.console == []
    return json.loads(escapes.unescape(re.search(r'<pre id="told">(.*?)</pre>', browsed.dom, re.DOTALL)[1]))


def test_the_page_loads_nothing(page):
    text = page.read_text()
    assert re.search(r"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[\w+/=]{44}'\"", text)
    assert not re.search(r'(?:src|href)="(?!#)', text)
    assert "url(" not in text


def test_what_a_model_wrote_is_text_and_no_markup(page):
    text = page.read_text()
    assert EVIL not in text
    assert "<b>bold</b>" not in text
    answers = [one["own"] for one in charts(page)["blocks"][0]["changed"]["sft"][ARITHMETIC]]
    assert answers
    assert set(answers) == {EVIL}


def test_charts_hold_the_tables_figures(table, page):
    block = charts(page)["blocks"][0]
    rows = {row["name"]: row for row in block["rows"]}
    for row in table.blocks[0].rows:
        for name, measure in row.measures.items():
            assert rows[row.name]["scores"][name][0] == pytest.approx(measure.value, rel=1e-5)
            if measure.difference:
                assert rows[row.name]["effects"][name][:3] == pytest.approx(measure.difference[:3], rel=1e-5)
    assert [seed for seed, _ in rows["dpo"]["seeds"][ARITHMETIC]] == [0, 1, 2]
    assert len(rows["base"]["seeds"][ARITHMETIC]) == 1
    assert rows["dpo"]["trials"] == [[1, 0.5, 0.05], [2, 0.6, 0.05], [3, 0.7, 0.05]]
    assert rows["kto"]["axes"] == {"F": "human", "arity": "single"}


def test_stages_are_those_that_made_the_model_and_its_own_evaluation(page):
    rows = {row["name"]: row for row in charts(page)["blocks"][0]["rows"]}
    spent = {one["kind"]: one["wall_seconds"] for one in rows["dpo"]["stages"]}
    assert spent["TrainSFT"] == 41.0
    assert spent["TrainPairs"] == 30.0


def test_an_items_letters_are_its_mean_scores_over_seeds(table, page):
    found = charts(page)["blocks"][0]["items"][ARITHMETIC]
    row = next(row for row in table.blocks[0].rows if row.name == "dpo")
    letters = [20 * sum(one.items(ARITHMETIC).scores[i] for one in row.evaluations) for i in range(3)]
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    assert [alphabet.index(one) for one in found["rows"]["dpo"][:3]] == letters
    assert (found["low"], found["high"], len(found["ids"])) == (0, 1, 120)


def test_a_page_without_charts_has_its_grids_and_its_legend():
    sheet = Sheet("Figures", ["method", "verdict"], [["a & b", "yes"]])
    text = html(Page("x", "X < Y", (Part("somewhere", (sheet,)),), ("a line",), [], {}))
    assert "<h1>X &lt; Y</h1>" in text
    assert "a &amp; b" in text
    assert "<li>a line</li>" in text
    assert 'id="charts">null<' in text


def test_the_letters_of_notes_stand_above_the_line():
    lines = [["Agile-Quant [a, c]", "yes"], ["QLoRA [b] [aa]", "no"], ["RL [off]line", "no"]]
    text = html(Page("x", "X", (Part("somewhere", (Sheet("Figures", ["method", "verdict"], lines),)),), (), [], {}))
    for named in ("Agile-Quant<sup>a c</sup>", "QLoRA<sup>b aa</sup>", "RL [off]line</th>"):
        assert named in text


@BROWSER
@pytest.mark.slow
def test_a_browser_draws_every_chart_and_complains_of_nothing(page, tmp_path):
    browsed = browse(page, tmp_path / "profile")
    assert browsed.console == []
    assert "owned" not in re.search(r"<title>(.*?)</title>", browsed.dom)[1]
    for title in ("Quality against cost", "Intervals over seeds", "Items gained", "Best of k trials", "Cost by stage"):
        assert title in browsed.dom
    assert browsed.dom.count("<svg") == 4
    assert browsed.dom.count("<canvas") == 5  # a line for every row but the base


@BROWSER
@pytest.mark.slow
def test_a_reader_sorts_filters_and_chooses(page, tmp_path):
    found = told(
        page,
        tmp_path,
        """
        const shown = () => [...document.querySelectorAll('#p0s0 tbody tr[data-key]')].filter(row => !row.hidden).map(row => row.dataset.key);
        const choose = (label, value) => {
          const select = [...document.querySelectorAll('label')].find(one => one.firstChild.textContent === label).querySelector('select');
          select.value = value; select.dispatchEvent(new Event('change'));
        };
        const found = {};
        const head = document.querySelectorAll('#p0s0 thead th')[2];
        head.click(); found.sorted = shown(); found.arrow = head.getAttribute('aria-sort');
        head.click(); found.turned = shown();
        head.click(); found.original = shown();
        choose('axis', 'arity'); found.axis = shown();
        choose('is', 'pair'); found.label = shown();
        found.points = document.querySelectorAll('#quality0 circle').length;
        choose('axis', ''); choose('cost', 'wall_seconds');
        found.cost = document.querySelector('#quality0 .axis').textContent;
        found.points_of_all = document.querySelectorAll('#quality0 circle').length;
        document.querySelectorAll('.chip')[2].click(); found.chips = shown();
        document.querySelectorAll('.chip')[2].click();
        const input = document.querySelector('input'); input.value = 'KTO'; input.dispatchEvent(new Event('input')); found.typed = shown();
        input.value = ''; input.dispatchEvent(new Event('input'));
        choose('score', 'text/bits_per_byte'); choose('against', 'sft');
        found.items = [...document.querySelectorAll('#items0 tbody tr')].map(row => row.dataset.row);
        document.querySelector('#items0 tbody tr[data-row=dpo]').click();
        found.answers = document.querySelectorAll('#items0 .answer pre').length;
        found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        return found;
        """,
    )
    values = {row["name"]: row["scores"][ARITHMETIC][0] for row in charts(page)["blocks"][0]["rows"]}
    assert [values[name] for name in found["sorted"]] == sorted(values.values(), reverse=True)
    assert [values[name] for name in found["turned"]] == sorted(values.values())
    assert found["arrow"] == "descending"
    assert found["original"] == ["base", "sft", "lora", "dpo", "simpo", "kto"]
    assert found["axis"] == ["dpo", "kto"]
    assert found["label"] == ["dpo"]
    assert found["points"] == 1
    assert found["cost"] == "wall time"
    assert found["points_of_all"] == 6
    assert found["chips"] == ["base", "sft"]  # alignment was taken out
    assert found["typed"] == ["kto"]
    assert found["items"] == ["base", "lora", "dpo", "simpo", "kto"]
    assert found["answers"] == 8
    assert found["wide"] == 0


@BROWSER
@pytest.mark.slow
def test_a_page_without_charts_is_sorted_and_filtered_too(spine, tmp_path):
    spec = make_spec(name="claims", view="effects", recipes=["dpo", "lora", "simpo"])
    path = tmp_path / "claims.html"
    path.write_text(pages.render(make(spec, load(spine), conf_dir()).page, "html"), encoding="utf-8")
    found = told(
        path,
        tmp_path,
        """
        const shown = () => [...document.querySelectorAll('#p0s0 tbody tr')].filter(row => !row.hidden).map(row => row.dataset.key);
        const all = shown();
        document.querySelectorAll('.chip')[1].click();
        const some = shown();
        document.querySelectorAll('.chip')[1].click();
        const input = document.querySelector('input'); input.value = 'nano_arithmetic'; input.dispatchEvent(new Event('input'));
        return [all, some, shown()];
        """,
    )
    assert found == [["dpo", "lora", "simpo"], ["dpo", "simpo"], ["lora"]]


@BROWSER
@pytest.mark.slow
def test_a_printed_table_is_filtered_by_axis(tmp_path):
    path = tmp_path / "survey_table2.html"
    path.write_text(
        pages.render(make(load_spec(conf_dir(), "survey_table2"), [], conf_dir()).page, "html"), encoding="utf-8"
    )
    found = told(
        path,
        tmp_path,
        """
        const shown = () => [...document.querySelectorAll('#p0s0 tbody tr')].filter(row => !row.hidden).map(row => row.dataset.key);
        const choose = (label, value) => {
          const select = [...document.querySelectorAll('label')].find(one => one.firstChild.textContent === label).querySelector('select');
          select.value = value; select.dispatchEvent(new Event('change'));
        };
        const all = shown();
        choose('axis', 'RM3'); choose('is', 'token');
        return [all.length, shown()];
        """,
    )
    assert found[0] > 22
    assert "tdpo2" in found[1]
    assert "dpo" not in found[1]


@BROWSER
@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1400])
def test_the_body_never_scrolls_sideways(page, tmp_path, width):
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth;"
    browsed = browse(driven(page, script), tmp_path / "profile", width=width)
    assert '<pre id="told">0</pre>' in browsed.dom


def test_the_command_writes_one_file_where_it_is_told(spine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("POLM_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    words = ["report", "effects", "--records", str(spine)]
    assert main([*words, "--out", "deep/page.html"]) == 0
    assert capsys.readouterr().out == f"Report: {tmp_path / 'deep' / 'page.html'}\nRecords: {spine}\n"
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(tmp_path / "home" / "reports" / "effects.html")
    assert (tmp_path / "deep" / "page.html").read_bytes() == Path(told["path"]).read_bytes()


def test_a_table_that_is_not_there_is_answered_with_near_names(capsys):
    assert main(["report", "efects"]) == 2
    assert "Did you mean effects" in capsys.readouterr().err
