"""Records arrive in a real MLflow store, once, whole, and without secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.run.to_mirror import record, runs, score, write

from polm_bench.errors import PolmError
from polm_bench.run import track
from polm_bench.run.mirror import curves_of, metrics_of, mlflow_name, params_of
from polm_bench.run.redact import redact, redact_text

pytestmark = pytest.mark.slow  # MLflow takes seconds to import and to migrate its first database


@pytest.fixture
def home(tracked_home: Path) -> Path:
    return tracked_home


def artifact(run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def test_a_record_becomes_a_child_run_with_params_metrics_curves_tags_and_artifacts(home):
    path = write(home, record())
    track.track(path, home)
    _, [run] = runs(home)
    assert run.info.run_name == "dpo-nano-nano-smoke-nano-s0-000000000000"
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 12_000
    assert run.data.params["recipe.loss.beta"] == "0.1"
    assert run.data.params["suite.tasks.nano_add.limit"] == "8"
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["nano_add/acc"] == 0.5
    assert run.data.metrics["nano_add/acc/stderr"] == 0.01
    assert run.data.metrics["nano_add/acc/vs_base"] == 0.25
    assert run.data.metrics["cost/wall_seconds"] == 12
    assert run.data.tags["axis.feedback"] == "pairwise"
    assert {"paradigm": "alignment", "paper": "arXiv:2305.18290", "status": "ok"}.items() <= run.data.tags.items()
    assert json.loads(artifact(run, "record.json").read_text()) == record()
    assert "lr: 1.0e-06" in artifact(run, "config.yaml").read_text()
    assert artifact(run, "items/abc.parquet").is_file()
    assert "| nano_add |" in artifact(run, "description.md").read_text() == run.data.tags["mlflow.note.content"]


def test_curves_keep_their_steps(home):
    from mlflow import MlflowClient

    track.track(write(home, record()), home)
    _, [run] = runs(home)
    history = MlflowClient(tracking_uri=track.tracking_uri(home)).get_metric_history(
        run.info.run_id, "train/TrainPairs/loss"
    )
    assert [(point.step, point.value) for point in history] == [(1, 0.7), (2, 0.6)]


def test_seeds_of_one_configuration_share_a_parent_that_holds_their_mean(home):
    track.track(write(home, record(0, 0.5)), home)
    track.track(write(home, record(1, 0.7)), home)
    [parent], children = runs(home)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert parent.data.metrics["nano_add/acc"] == pytest.approx(0.6)
    assert parent.data.metrics["cost/wall_seconds"] == 12.5
    assert parent.data.metrics["seeds/ok"] == 2
    assert parent.data.tags["seeds"] == "0,1"
    assert "nano_add/acc/stderr" not in parent.data.metrics


def test_another_learning_rate_is_another_parent_named_after_it(home):
    changed = record(1)
    changed["cell"]["config"]["recipe"]["lr"] = 0.001
    changed["cell"]["origins"]["recipe.lr"] = "command line"
    track.track(write(home, record(0)), home)
    track.track(write(home, changed), home)
    parents, _ = runs(home)
    assert sorted(run.info.run_name for run in parents) == [
        "dpo-nano-nano-smoke-nano",
        "dpo-nano-nano-smoke-nano recipe.lr=0.001",
    ]


def test_replaying_makes_no_duplicates_and_replaces_a_changed_record(home):
    track.track(write(home, record(0)), home)
    write(home, record(1))
    assert track.replay(home) == 1
    assert track.replay(home) == 0
    write(home, record(1, 0.9))
    assert track.replay(home) == 1
    _, children = runs(home)
    assert sorted(run.data.metrics["nano_add/acc"] for run in children) == [0.5, 0.9]


def test_what_a_killed_process_left_is_written_again(home):
    path = write(home, record())
    client = track._client(home)
    experiment = track.initialise(home)
    client.create_run(experiment, tags={"polm.record": record()["id"]})
    track.track(path, home)
    _, [run] = runs(home)
    assert run.data.metrics["nano_add/acc"] == 0.5


def test_a_failed_cell_is_a_failed_run_and_stays_out_of_the_mean(home):
    track.track(write(home, record(0, 0.5)), home)
    track.track(write(home, record(1, status="diverged", reason="loss is NaN at step 3", scores=[], items={})), home)
    [parent], children = runs(home)
    failed = next(run for run in children if run.data.tags["status"] == "diverged")
    assert failed.info.status == "FAILED"
    assert failed.data.tags["reason"] == "loss is NaN at step 3"
    assert parent.data.metrics["nano_add/acc"] == 0.5
    assert parent.data.tags["status"] == "1 of 2 failed"


def test_a_tracked_record_is_known_until_it_or_the_store_changes(home, monkeypatch):
    path = write(home, record())
    assert not track.is_tracked(path, home)
    track.track(path, home)
    assert track.is_tracked(path, home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert not track.is_tracked(path, home)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    write(home, record(value=0.6))
    assert not track.is_tracked(path, home)
    write(home, record())
    (home / "mlflow.db").unlink()
    assert not track.is_tracked(path, home)


def test_a_store_that_does_not_answer_is_a_warning_that_says_what_to_do(home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    path = write(home, record())
    track.track(path, home)
    assert "polm-bench track replay" in capsys.readouterr().err
    assert not track.is_tracked(path, home)
    with pytest.raises(PolmError, match=r"127\.0\.0\.1:1"):
        track.replay(home)


def test_secrets_do_not_reach_mlflow(home):
    content = record()
    content["cell"]["config"]["data"] |= {"token": "s3cret", "path": "https://me:s3cret@host/x", "eos_token": "</s>"}
    content["provenance"]["command"] = "polm-bench run +recipe=dpo data.token=s3cret"
    track.track(write(home, content), home)
    for group in runs(home):
        for run in group:
            assert "s3cret" not in str(run.to_dictionary())
            for file in artifact(run, ".").glob("*"):
                assert file.is_dir() or "s3cret" not in file.read_text()
    assert run.data.params["data.eos_token"] == "</s>"


def test_three_processes_can_track_into_a_fresh_database(tmp_path):
    paths = [write(tmp_path, record(seed)) for seed in range(3)]
    code = "import sys; from pathlib import Path; from polm_bench.run.track import track; track(Path(sys.argv[1]), Path(sys.argv[2]))"
    workers = [
        subprocess.Popen([sys.executable, "-c", code, path, tmp_path], stderr=subprocess.PIPE, text=True)
        for path in paths
    ]
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 3
    assert not any("warning: MLflow" in text for text in errors), errors
    [parent], children = runs(tmp_path)
    assert len(children) == 3
    assert parent.data.metrics["seeds/ok"] == 3


def test_asking_whether_a_record_is_tracked_imports_no_mlflow(tmp_path):
    path = write(tmp_path, record())
    code = (
        "import sys; from pathlib import Path; from polm_bench.run.track import is_tracked;"
        f"is_tracked(Path({str(path)!r}), Path({str(tmp_path)!r}));"
        "print([name for name in ('mlflow', 'filelock', 'torch', 'pandas') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_names_that_mlflow_refuses_are_mapped():
    assert mlflow_name("acc,none") == "acc/none"
    assert mlflow_name("pass@1|strict") == "pass_1_strict"


def test_two_filters_of_one_metric_keep_apart():
    scores = [score("self", "gsm", 0.1, filter="strict"), score("self", "gsm", 0.2, filter="flexible")]
    assert metrics_of({"scores": scores})["gsm/acc/flexible"] == 0.2


def test_a_long_value_is_cut_and_says_so():
    cell = record()["cell"]
    cell["config"]["model"]["template"] = "x" * 9000
    value = params_of(cell)["model.template"]
    assert len(value) <= 2000
    assert value.endswith("(cut; 9000 characters in all)")


def test_a_long_curve_is_thinned_and_keeps_its_last_point():
    points = [{"step": step, "loss": 1.0} for step in range(2500)]
    kept = list(curves_of({"curves": [{"stage": "k", "kind": "TrainSft", "points": points}]}))
    assert len(kept) <= 1000
    assert kept[-1].step == 2499


def test_redaction_looks_at_names_and_leaves_counts_alone():
    assert redact({"hf_token": "x", "api_key": "y", "tokens": 5, "max_tokens": 9, "pad_token": "<pad>"}) == {
        "hf_token": "(removed)",
        "api_key": "(removed)",
        "tokens": 5,
        "max_tokens": 9,
        "pad_token": "<pad>",
    }
    assert redact_text("run data.token=abc seed=1") == "run data.token=(removed) seed=1"


CHROMIUM = shutil.which("chromium")
HEADLESS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=30000 --window-size=1600,1000"
).split()


def browse(address: str, profile: Path, *what: str) -> str:
    """The page's DOM after its scripts have run (`--dump-dom`), or what else is asked for."""
    command = [CHROMIUM, *HEADLESS, f"--user-data-dir={profile}", *what, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


@pytest.fixture
def ui(home: Path):
    """Address of the experiment in a running `polm-bench ui`."""
    track.track(write(home, record(0, 0.5)), home)
    track.track(write(home, record(1, 0.7)), home)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "polm_bench", "ui", "--port", str(port)]
    with (home / "ui.log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | {"POLM_HOME": str(home)}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server, home / "ui.log")
        yield re.search(r"open (\S+)", (home / "ui.log").read_text())[1]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait_until_healthy(address: str, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"the UI does not answer:\n{log.read_text()}")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)")
def test_the_ui_shows_runs_and_metrics(ui, home):
    parents, children = runs(home)
    listing = browse(ui, home / "profile", "--dump-dom")
    assert parents[0].info.run_name in listing
    assert "Records of polm-bench" in listing
    run = next(child for child in children if child.data.tags["seed"] == "1")
    page = browse(f"{ui}/{run.info.run_id}", home / "profile", "--dump-dom")
    for text in (run.info.run_name, "nano_add/acc/vs_base", "recipe.loss.beta", "arXiv:2305.18290"):
        assert text in page
    browse(f"{ui}/{run.info.run_id}", home / "profile", f"--screenshot={home / 'ui.png'}")
    assert (home / "ui.png").stat().st_size > 20_000
