"""Whatever MLflow does, a record stays as it is, its run goes on, and replaying brings MLflow level, each record once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from subprocess import PIPE

import pytest
from tests.run.to_mirror import record, runs, write

from polm_bench.drill.server import served
from polm_bench.errors import PolmError
from polm_bench.run import track

pytestmark = pytest.mark.slow  # MLflow takes seconds to import

WRITERS = 8
# In a process of its own, as SQLite keeps the locks of a process in its memory, which the forked writers would share.
LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tracked_home: Path) -> Path:
    return tracked_home


@pytest.fixture(scope="module")
def server(template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(template, folder / "mlflow.db")
    with served(folder) as faults:
        yield faults


@pytest.fixture
def told(server, home, monkeypatch):
    """The server, whose address is in the environment of this test only."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    yield server
    server.delay, server.longest, server.unwanted = 0.0, None, None


def named(recipe: str, seed: int = 0, **changes) -> dict:
    """A record of a group of its own, as all tests share the server."""
    made = record(seed, **changes)
    made["cell"]["recipe"] = recipe
    return made | {"id": f"{recipe}-s{seed}"}


def of_recipe(home: Path, recipe: str) -> tuple[list, list]:
    return tuple([run for run in found if run.data.tags.get("recipe") == recipe] for found in runs(home))


def test_a_slow_server_is_given_up_in_seconds_and_what_it_did_too_late_is_not_there_twice(
    told, home, capsys, monkeypatch
):
    paths = [write(home, named("slow", seed)) for seed in (0, 1)]
    before = [path.read_bytes() for path in paths]
    track.track(paths[0], home)  # so that the experiment is there, and a request that is late makes runs
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    told.delay = 2.0
    started = time.monotonic()
    track.track(paths[1], home)
    assert time.monotonic() - started < 30
    assert "polm-bench track replay" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    told.delay = 0.3
    track.replay(home)
    told.delay = 0.0
    time.sleep(2)  # for what the server still had to do
    track.replay(home)
    [parent], children = of_recipe(home, "slow")
    assert sorted(run.data.tags["seed"] for run in children) == ["0", "1"]
    assert parent.data.metrics["seeds/all"] == 2
    assert [path.read_bytes() for path in paths] == before
    assert track.replay(home) == 0


def test_requests_that_a_late_server_carried_out_twice_leave_one_run_each(told, home):
    from mlflow import MlflowClient

    from polm_bench.run.mirror import child_of, group_of

    made = named("twice")
    experiment = track.initialise(home)
    client = MlflowClient(told.address)
    for _ in range(2):
        parent = client.create_run(experiment, tags=group_of(made).tags).info.run_id
        client.create_run(experiment, tags={**child_of(made).tags, "mlflow.parentRunId": parent})
    write(home, made)
    track.replay(home)
    [parent], [run] = of_recipe(home, "twice")
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.metrics["seeds/all"] == 1
    assert parent.data.params["recipe.lr"] == "1e-06"


def test_a_server_that_refuses_long_values_gets_short_ones(told, home, capsys):
    told.longest = 300
    made = named("long", reason="x" * 900, status="failed")
    made["cell"]["config"]["model"]["template"] = "y" * 900
    path = write(home, made)
    track.track(path, home)
    assert capsys.readouterr().err == ""
    [parent], [run] = of_recipe(home, "long")
    for whose in (parent, run):
        assert whose.data.params["model.template"].endswith("(cut; 900 characters in all)")
        assert len(whose.data.params["model.template"]) <= 250
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert json.loads((folder / "record.json").read_text()) == made


def test_a_record_that_is_refused_does_not_keep_the_others_out(told, home):
    told.unwanted = b"poison"
    refused = named("refused")
    refused["cell"]["config"]["model"]["template"] = "poison"
    for made in (refused, named("wanted")):
        write(home, made)
    with pytest.raises(PolmError, match=r"refused 1 of 2 records\. refused-s0: INVALID_PARAMETER_VALUE"):
        track.replay(home)
    assert len(of_recipe(home, "wanted")[1]) == 1
    told.unwanted = None
    assert track.replay(home) == 1


def test_a_server_that_is_down_is_caught_up_with(server, home, monkeypatch, capsys):
    path = write(home, named("down"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    track.track(path, home)
    assert "warning: MLflow did not take the record down-s0" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    assert track.replay(home) == 1
    assert track.replay(home) == 0


def track_apart(path: Path, home: Path) -> None:
    log = os.open(home / f"{path.stem}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    track.track(path, home)


def at_once(paths: list[Path], home: Path) -> list[str]:
    """What writers say that mirror a record each at the same time."""
    writers = [get_context("fork").Process(target=track_apart, args=(path, home)) for path in paths]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {writer.exitcode for writer in writers} == {0}
    return [(home / f"{path.stem}.log").read_text() for path in paths]


def test_eight_writers_give_a_locked_database_up_and_get_in_when_it_is_free(home, monkeypatch):
    monkeypatch.setattr(track, "BUSY_SECONDS", 1.0)
    track.initialise(home)
    paths = [write(home, named("locked", seed)) for seed in range(WRITERS)]
    before = [path.read_bytes() for path in paths]
    locker = subprocess.Popen([sys.executable, "-c", LOCK, home / "mlflow.db"], stdin=PIPE, stdout=PIPE, text=True)
    assert locker.stdout.readline() == "locked\n"
    said = at_once(paths, home)
    assert all("database is locked). The record itself is safe; `polm-bench track replay`" in text for text in said)
    assert not any("Traceback" in text for text in said)
    with pytest.raises(PolmError, match="did not take the records: database is locked"):
        track.replay(home)
    locker.communicate()
    assert track.replay(home) == WRITERS
    for path in paths:
        write(home, json.loads(path.read_text()) | {"reason": "changed"})
    assert at_once(paths, home) == [""] * WRITERS
    assert track.replay(home) == 0
    [parent], children = runs(home)
    assert len(children) == parent.data.metrics["seeds/ok"] == WRITERS
    assert [json.loads(path.read_text()) for path in paths] == [
        json.loads(content) | {"reason": "changed"} for content in before
    ]
