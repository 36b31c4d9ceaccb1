"""What a home holds: who is at work, what no record needs, what is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.run.toy_stages import Note, graph, run

from polm_bench.cli import main
from polm_bench.files import write_json
from polm_bench.run import upkeep
from polm_bench.run.store import Store


@pytest.fixture
def full(home, tmp_path, monkeypatch) -> Path:
    """A home with the stages a, b and c, of which a record names a and b."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    run([graph()], Store(home / "store"))
    (home / "records").mkdir()
    b = graph().after[0]
    stages = [{"kind": "Note", "key": stage.key} for stage in (b, b.after[0])]
    write_json(home / "records" / "one.json", {"id": "one", "status": "ok", "reason": None, "stages": stages})
    return home


def stages(home: Path) -> set[str]:
    return {folder.name for folder in Store(home / "store").finished()}


def test_only_what_no_record_needs_is_litter(full):
    assert [(one.path.name, one.what) for one in upkeep.litter(full)] == [
        (graph().folder, "a stage that no record names")
    ]


def test_collecting_deletes_after_a_yes_and_not_before(full, capsys):
    before = stages(full)
    assert main(["gc"]) == 2  # nobody there to ask
    assert "Nothing was deleted" in capsys.readouterr().err
    assert stages(full) == before
    assert main(["gc", "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["freed"] == told["bytes"] > 0
    assert before - stages(full) == {graph().folder}
    assert upkeep.litter(full) == []


def test_what_a_killed_writer_left_is_litter_and_what_a_living_one_writes_is_not(home, tmp_path):
    with (tmp_path / "log").open("w"):
        pass
    environment = os.environ | {"TOY_LOG": str(tmp_path / "log"), "TOY_HANG": "b"}
    toy = str(Path(__file__).with_name("toy_stages.py"))
    with subprocess.Popen(
        [sys.executable, toy, str(home / "store"), "cell-1"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "hanging\n"
        at_work = upkeep.running(Store(home / "store"))
        assert [(one["owner"], one["pid"], one["kind"]) for one in at_work] == [("cell-1", process.pid, "Note")]
        assert [one.what for one in upkeep.litter(home)] == ["a stage that no record names"]
        process.send_signal(signal.SIGKILL)
    assert upkeep.running(Store(home / "store")) == []
    assert sorted(one.what for one in upkeep.litter(home)) == [
        "a stage that no record names",
        "checkpoints of an unfinished stage",
        "left by a killed writer",  # the folder it wrote to
        "left by a killed writer",  # its notice
    ]


@pytest.mark.parametrize("place", ["records", "wanted", "overlap"])
def test_a_file_that_a_killed_writer_left_beside_its_place_is_litter(home, place):
    left = home / place / ".one.json.0123abcd"
    left.parent.mkdir(parents=True)
    left.write_text("{")
    assert [(one.path, one.what) for one in upkeep.litter(home)] == [(left, "left by a killed writer")]


def test_a_cell_is_wanted_until_it_has_a_record_that_ended_well(full, capsys):
    upkeep.want(full, {"one": "polm-bench run +recipe=one", "two": "polm-bench run +recipe=two"})
    write_json(full / "records" / "three.json", {"id": "three", "status": "failed", "reason": "KeyError: 'x'"})
    assert main(["status", "--json"]) == 0
    cells = {cell["id"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    assert {name: cell["status"] for name, cell in cells.items()} == {"one": "ok", "two": "wanted", "three": "failed"}
    assert cells["three"]["reason"] == "KeyError: 'x'"
    upkeep.got(full, "two")
    assert {cell["id"] for cell in upkeep.status(full)["cells"]} == {"one", "three"}


def test_verifying_finds_a_flipped_bit_and_puts_the_stage_aside(full, capsys):
    assert main(["verify"]) == 0
    note = Store(full / "store").path(Note("a")) / "note.txt"
    note.write_bytes(bytes([note.read_bytes()[0] ^ 1, *note.read_bytes()[1:]]))
    assert main(["verify", "--json"]) == 1
    told = json.loads(capsys.readouterr().out.split("damaged.\n")[-1])
    assert [(one["stage"], one["files"]) for one in told["damaged"]] == [(Note("a").folder, ["note.txt"])]
    assert Note("a").folder not in stages(full)
    assert main(["verify"]) == 0
