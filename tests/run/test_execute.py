"""The store and the runner lose nothing: whole folders only, each stage once, failures are outcomes."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic.dataclasses import dataclass
from safetensors.numpy import save_file
from tests.run.toy_stages import LAUNCH, Fail, Greedy, Note, Silent, graph, run

from polm_bench.errors import StoreError
from polm_bench.files import write_json
from polm_bench.graph import FORBID, Stage
from polm_bench.run import store as stores
from polm_bench.run.execute import classify, missing
from polm_bench.run.store import Store


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Path of a file with a line for every stage that really ran."""
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("TOY_LOG", str(path))
    return path


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def unheard(stage, files) -> None:
    raise AssertionError(f"{stage} is said to be damaged: {files}")


def start(store: Store, owner: str, **environment: str) -> subprocess.Popen[str]:
    """The graph in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("toy_stages.py")), str(store.root), owner],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_every_stage_runs_once_and_is_found_again(store, log):
    assert [outcome.status for outcome in run([graph()], store)] == ["ok"] * 3
    again = run([graph()], store)
    assert log.read_text() == "a\nb\nc\n"
    assert (store.path(graph()) / "note.txt").read_text() == "a\nb\nc\n"
    assert [outcome.ledger["tokens_trained"] for outcome in again] == [1, 1, 1]
    assert again[2].curve == [{"step": 1, "loss": 0.5}]


@dataclass(frozen=True, config=FORBID)
class Deep(Stage):
    """Writes weights in a folder of its folder, and a link to a file of the user's."""

    given: str

    def run(self, job) -> None:
        (job.out / "adapter").mkdir()
        save_file({"weight": np.zeros(2)}, job.out / "adapter" / "weights.safetensors")
        (job.out / "linked.bin").symlink_to(self.given)


def test_who_may_read_a_manifest_may_read_the_weights(store, tmp_path):
    (tmp_path / "own.bin").write_text("")
    (tmp_path / "own.bin").chmod(0o600)
    stage = Deep(str(tmp_path / "own.bin"))
    run([stage], store)
    modes = {path.name: path.stat().st_mode for path in store.path(stage).rglob("*.*")}
    assert modes["weights.safetensors"] == modes["manifest.json"]
    assert modes["linked.bin"] & 0o777 == 0o600  # the user's file stays the user's


def test_a_stage_made_for_another_cell_is_shared_and_ones_own_is_not(store, log):
    run([Note("a")], store, owner="other")
    shared = {outcome.stage.text: outcome.shared for outcome in run([graph()], store, owner="me")}
    assert shared == {"a": True, "b": False, "c": False}
    assert not any(outcome.shared for outcome in run([graph()], store, owner="me") if outcome.stage.text != "a")


def test_what_only_finished_stages_need_is_not_made_again(store, log):
    run([graph()], store)
    shutil.rmtree(store.path(Note("a")))
    assert missing([graph()], store, unheard) == []
    run([graph()], store)
    assert log.read_text() == "a\nb\nc\n"


def test_a_folder_without_manifest_does_not_count(store, log):
    run([graph()], store)
    (store.path(graph()) / "manifest.json").unlink()
    assert [stage.text for stage in missing([graph()], store, unheard)] == ["c"]
    run([graph()], store)
    assert log.read_text() == "a\nb\nc\nc\n"


@pytest.mark.parametrize("hanging", ["a", "b", "c"])
def test_a_killed_run_leaves_whole_stages_only_and_the_next_goes_on(store, log, hanging):
    process = start(store, "killed", TOY_HANG=hanging)
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = "abc"[: "abc".index(hanging)]
    whole = list(store.root.glob("Note-*"))
    assert len(whole) == len(done)
    assert all((path / "manifest.json").exists() for path in whole)
    run([graph()], store)
    assert log.read_text().split() == [*done, hanging, *"abc"[len(done) :]]
    assert (store.path(graph()) / "note.txt").read_text() == "a\nb\nc\n"
    assert list((store.root / ".partial").iterdir()) == []
    assert list((store.root / ".scratch").iterdir()) == []


def test_processes_that_need_the_same_stages_make_each_once(store, log):
    store.prepare()
    processes = [start(store, f"owner {i}") for i in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == ['["ok", "ok", "ok"]'] * 4
    assert sorted(log.read_text().split()) == ["a", "b", "c"]


def test_who_waits_is_told_and_takes_what_the_other_made(store, log):
    process = start(store, "first", TOY_HANG="b")
    assert process.stdout.readline() == "hanging\n"
    reporter = Silent()

    class KillsWhenWaiting(Silent):
        def waiting(self, stage) -> None:
            reporter.waiting(stage)
            process.kill()

    outcomes = run([graph()], store, owner="second", reporter=KillsWhenWaiting())
    process.wait()
    assert reporter.told == [("waiting", Note("b", (Note("a"),)).key)]
    assert [(outcome.stage.text, outcome.shared) for outcome in outcomes] == [("a", True), ("b", False), ("c", False)]


@pytest.mark.parametrize(
    ("how", "status"),
    [("oom", "oom"), ("oom_device", "oom"), ("nan", "diverged"), ("timeout", "timeout"), ("bug", "failed")],
)
def test_a_failure_is_an_outcome_with_its_reason_and_what_was_spent(store, log, how, status):
    outcomes = run([Note("z", (Fail(how, (Note("a"),)),))], store)
    assert [outcome.status for outcome in outcomes] == ["ok", status]
    assert outcomes[1].ledger["tokens_trained"] == 7
    assert outcomes[1].reason
    assert store.has(Note("a"))
    assert not store.path(Fail(how, (Note("a"),))).exists()
    assert list((store.root / ".partial").iterdir()) == []


def test_only_words_of_memory_make_a_runtime_error_oom():
    assert classify(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")) == "oom"
    assert classify(RuntimeError("shapes do not match")) == "failed"


def test_a_full_disk_is_named_and_leaves_nothing_half_written(store, log, monkeypatch):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stores, "write_json", full)
    with pytest.raises(StoreError, match="the disk is full"):
        run([Note("a")], store)
    monkeypatch.undo()
    monkeypatch.setenv("TOY_LOG", str(log))
    assert not store.path(Note("a")).exists()
    assert list((store.root / ".partial").iterdir()) == []
    assert [outcome.status for outcome in run([Note("a")], store)] == ["ok"]


@dataclass(frozen=True, config=FORBID)
class Large(Stage):
    """Writes a file of a megabyte, as the library says."""

    library: str

    def run(self, job) -> None:
        if self.library == "safetensors":
            save_file({"a": np.zeros(2**18, np.float32)}, job.out / "a.safetensors")
        else:
            (job.out / "a").write_bytes(bytes(2**20))


@pytest.mark.parametrize("library", ["python", "safetensors"])
def test_a_limit_on_files_is_named_and_says_nothing_of_the_stage(store, log, library):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Python's default, which pytest may have changed
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
    try:
        with pytest.raises(StoreError, match="File too large"):
            run([Large(library)], store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((store.root / ".partial").iterdir()) == []
    assert [outcome.status for outcome in run([Large(library)], store)] == ["ok"]


def test_a_store_that_cant_be_made_is_named(tmp_path, log):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be written"):
        run([Note("a")], Store(tmp_path / "file" / "store"))


@pytest.mark.parametrize("harm", [lambda path: path.write_text("b\n"), lambda path: path.write_text(""), Path.unlink])
def test_a_damaged_stage_is_named_put_aside_and_made_again_and_never_served(tmp_path, log, harm):
    root = tmp_path / "store"
    run([graph()], Store(root))
    harm(Store(root).path(graph()) / "note.txt")
    told = Silent()
    run([graph()], Store(root), reporter=told)
    assert ("damaged", "note.txt") in told.told
    assert log.read_text() == "a\nb\nc\nc\n"
    assert (Store(root).path(graph()) / "note.txt").read_text() == "a\nb\nc\n"
    assert [folder.name[:5] for folder in (root / ".damaged").iterdir()] == ["Note-"]


def test_damage_in_what_nobody_reads_does_not_matter_to_a_run(tmp_path, log):
    root = tmp_path / "store"
    run([graph()], Store(root))
    (Store(root).path(Note("a")) / "note.txt").unlink()
    assert [outcome.status for outcome in run([graph()], Store(root))] == ["ok"] * 3
    assert log.read_text() == "a\nb\nc\n"


def test_a_stage_that_takes_too_long_is_a_timeout(store, log, monkeypatch):
    monkeypatch.setenv("TOY_HANG", "b")
    outcomes = run([graph()], store, launch=replace(LAUNCH, stage_timeout=0.3))
    assert [outcome.status for outcome in outcomes] == ["ok", "timeout"]
    assert "launch.stage_timeout" in outcomes[-1].reason


def test_a_cell_that_takes_too_long_is_a_timeout(store, log, monkeypatch):
    monkeypatch.setenv("TOY_HANG", "c")
    outcomes = run([graph()], store, launch=replace(LAUNCH, cell_timeout=0.5, stage_timeout=500))
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "timeout"]
    assert "launch.cell_timeout" in outcomes[-1].reason


def test_out_of_memory_shrinks_the_micro_batch_until_it_fits_where_that_is_asked(store, log):
    big = Greedy(fits=16)
    assert [outcome.status for outcome in run([big], store)] == ["oom"]
    told = Silent()
    outcomes = run([big], store, launch=replace(LAUNCH, on_oom="shrink"), reporter=told)
    assert [outcome.status for outcome in outcomes] == ["ok"]
    assert (store.path(big) / "note.txt").read_text() == "16"
    assert [text for kind, text in told.told if kind == "say"] == [
        f"      out of memory; once more with launch.micro_batch={size}" for size in (32, 16)
    ]


def test_what_fits_in_no_micro_batch_is_out_of_memory(store, log):
    assert [outcome.status for outcome in run([Greedy(fits=0)], store, launch=replace(LAUNCH, on_oom="shrink"))] == [
        "oom"
    ]


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]
