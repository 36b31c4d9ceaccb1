from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tests.report.synthetic import make_record, score, write_items, write_json, write_record

from polm_bench.report.compare import compare
from polm_bench.report.compare_console import print_comparison
from polm_bench.report.console import lines_of, print_record, print_result, result_dict
from polm_bench.report.records import find, load, read
from polm_bench.stats import holm

ROOT = Path(__file__).resolve().parents[2]


def printed(show, *what, width=110):
    console = Console(width=width, record=True, file=io.StringIO())
    show(*what, console)
    return console.export_text()


@pytest.fixture(scope="module")
def records(spine):
    return load(spine)


def test_a_result_shows_base_start_and_self_for_every_headline_score(records):
    record = find(records, "dpo-nano-nano-nano-nano-s0")
    lines = lines_of(record)
    assert [line.row for line in lines] == ["base", "start", "self"] * 4
    text = printed(print_result, record)
    for word in (
        "arithmetic",
        "exact_match ↑ n=120",
        "start (SFT)",
        "dpo",
        "Making it: 80.0 s wall time",
        "polm-bench ui",
    ):
        assert word in text
    assert str(record.path) in text
    assert "distinct_2" not in text


def test_a_results_p_values_are_corrected_over_what_is_printed(records):
    lines = [line for line in lines_of(find(records, "dpo-nano-nano-nano-nano-s0")) if line.difference]
    assert [line.p_holm for line in lines] == pytest.approx(holm([line.difference.p for line in lines]))


def test_the_base_stands_alone_in_its_own_result(records):
    lines = lines_of(find(records, "base-nano-nano-nano-nano-s0"))
    assert [line.row for line in lines] == ["base"] * 4


def test_a_result_fits_eighty_columns(records):
    text = printed(print_result, find(records, "dpo-nano-nano-nano-nano-s0"), width=80)
    grid = [line for line in text.splitlines() if "0." in line and "[" in line]
    assert grid
    assert max(map(len, grid)) <= 80


def test_a_failed_cell_says_so_and_why(tmp_path):
    record = read(write_record(tmp_path, "dpo", status="diverged", reason="loss is NaN at step [12]"))
    text = printed(print_result, record)
    assert "diverged: loss is NaN at step [12]" in text
    assert "80.0 s wall time" in text
    assert result_dict(record)["scores"] == []


def test_a_result_as_json_says_the_same(records):
    record = find(records, "dpo-nano-nano-nano-nano-s0")
    found = json.loads(json.dumps(result_dict(record)))
    assert (found["id"], found["status"], found["cell"]["recipe"]) == (record.id, "ok", "dpo")
    assert len(found["scores"]) == 12
    own = [line for line in found["scores"] if line["row"] == "self"]
    assert all(line["low"] < line["value"] < line["high"] for line in own)
    assert all(line["difference"]["p_holm"] >= line["difference"]["p"] for line in own)


def test_showing_a_record_adds_stages_every_score_and_what_it_was_made_with(records):
    text = printed(print_record, find(records, "dpo-nano-nano-nano-nano-s0"))
    for word in ("TrainSFT", "done (shared)", "steering/distinct_2", "versions.torch = 2.13.0"):
        assert word in text


def test_printing_a_result_loads_neither_pandas_nor_scipy(spine):
    path = next(spine.glob("dpo-*.json"))
    code = (
        "import io, sys\nfrom pathlib import Path\nfrom rich.console import Console\n"
        "from polm_bench.report.console import print_result\nfrom polm_bench.report.records import read\n"
        f"print_result(read(Path({str(path)!r})), Console(file=io.StringIO()))\n"
        "print(sorted({'torch', 'pandas', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert out == "[]\n"


def hand_made(folder, recipe, rows, higher_is_better=True):
    """A record whose only score is the mean of `rows`: (item, score, output)."""
    items = [
        {"task": "t", "item": name, "cluster": name, "prompt_hash": "p", "metric": "acc", "score": value, "weight": 1.0}
        | {"output": output}
        for name, value, output in rows
    ]
    record = make_record(recipe)
    value = sum(value for _, value, _ in rows) / len(rows)
    record["items"] = {"self": write_items(folder, record["rows"]["self"], items)}
    record["scores"] = [score("self", "t", "acc", value, n=len(rows), higher_is_better=higher_is_better)]
    return read(write_json(folder, record))


def test_a_comparison_counts_and_shows_the_items_that_changed(tmp_path):
    first = hand_made(tmp_path, "sft", [("a", 0.0, "A of first"), ("b", 1.0, "B of first"), ("c", 1.0, "C of first")])
    second = hand_made(
        tmp_path, "dpo", [("c", 1.0, "C of second"), ("b", 0.0, "B of second"), ("a", 1.0, "A of second")]
    )
    [found] = compare(first, second).scores
    assert (found.gained, found.lost, found.difference.mean) == (1, 1, 0.0)
    assert found.gains[0] == ("a", 0.0, 1.0, "A of first", "A of second")
    assert found.losses[0] == ("b", 1.0, 0.0, "B of first", "B of second")


def test_where_lower_is_better_a_gain_is_a_fall(tmp_path):
    first = hand_made(tmp_path, "sft", [("a", 2.0, ""), ("b", 1.0, "")], higher_is_better=False)
    second = hand_made(tmp_path, "dpo", [("a", 1.0, ""), ("b", 1.0, "")], higher_is_better=False)
    [found] = compare(first, second).scores
    assert (found.gained, found.lost, found.difference.mean) == (1, 0, -0.5)


def test_a_comparison_names_what_differs_in_settings_and_surroundings(tmp_path):
    first = read(write_record(tmp_path / "a", "dpo"))
    other = make_record("dpo", 1)
    other["cell"]["config"]["recipe"]["loss"]["beta"] = 0.3
    other["cell"]["config"]["recipe"]["meta"] = {"title": "another"}  # says something and sets nothing
    other["provenance"]["versions"] = {**other["provenance"]["versions"], "torch": "2.12.0"}
    second = read(write_record(tmp_path / "b", "dpo", 1, cell=other["cell"], provenance=other["provenance"]))
    found = compare(first, second)
    assert found.settings == [("seed", 0, 1), ("recipe.loss.beta", 0.1, 0.3)]
    assert found.surroundings == [("versions.torch", "2.13.0", "2.12.0")]
    assert [name.partition("-")[0] for name in found.shared_stages] == ["TrainSFT"]
    text = printed(print_comparison, found)
    assert "recipe.loss.beta" in text
    assert "2.12.0" in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_fits_one_screen_and_says_what_it_leaves_out(records, width):
    pair = find(records, "base-nano-nano-nano-nano-s0"), find(records, "dpo-nano-nano-nano-nano-s0")
    lines = printed(print_comparison, compare(*pair), width=width).splitlines()
    assert len(lines) < 40
    assert max(map(len, lines)) <= width
    assert sum(" in B: " in line for line in lines) == 3
    assert "--all" in lines[-1]
    assert not any("distinct_2" in line for line in lines)


def test_a_comparison_shows_all_of_it_or_more_items_on_request(records):
    pair = find(records, "base-nano-nano-nano-nano-s0"), find(records, "dpo-nano-nano-nano-nano-s0")
    more = printed(lambda found, console: print_comparison(found, console, items=20), compare(*pair, 20))
    assert more.count(" in B: ") == 20
    found = compare(*pair)
    everything = printed(lambda found, console: print_comparison(found, console, everything=True), found, width=300)
    assert everything.count(" in B: ") == sum(len(one.gains) + len(one.losses) for one in found.scores if one.headline)
    assert all(one.column.partition("/")[0] in everything for one in found.scores)
    assert "--all" not in everything


def test_surroundings_that_move_no_score_are_counted_on_one_screen(tmp_path):
    first = read(write_record(tmp_path / "a", "dpo"))
    other = {**make_record("dpo")["provenance"], "git": {"commit": "f" * 40, "dirty": False}}
    found = compare(first, read(write_record(tmp_path / "b", "dpo", provenance=other)))
    assert "git.commit" in [name for name, _, _ in found.surroundings]
    text = printed(print_comparison, found)
    assert "Environment: the same" in text
    assert f"{len(found.surroundings)} of the environment" in text


def test_a_comparison_is_json_and_turns_round_when_its_sides_do(records):
    first, second = find(records, "dpo-nano-nano-nano-nano-s0"), find(records, "kto-nano-nano-nano-nano-s0")
    there, back = (json.loads(json.dumps(compare(*pair).to_dict())) for pair in ((first, second), (second, first)))
    for one, other in zip(there["scores"], back["scores"], strict=True):
        assert (one["gained"], one["lost"]) == (other["lost"], other["gained"])
        if one["difference"]:
            assert one["difference"]["mean"] == pytest.approx(-other["difference"]["mean"])


def test_a_record_beside_itself_differs_in_nothing(records):
    found = compare(records[3], records[3])
    assert found.settings == found.surroundings == []
    assert all(score.gained == score.lost == 0 for score in found.scores)


def test_a_failed_record_can_be_compared(tmp_path, records):
    failed = read(write_record(tmp_path, "dpo", status="oom", reason="out of memory"))
    found = compare(failed, records[0])
    assert found.scores == []
    assert "out of memory" in printed(print_comparison, found)
