"""Mirrors records into MLflow: a parent run per (model, recipe, data, budget, suite) and a child run per seed.

Reads records and their items, nothing else, so the mirror can be rebuilt at any time. The record is the truth: whatever
MLflow does, a run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.errors import PolmError
from polm_bench.run.mirror import child_of, group_of, mean_over_seeds
from polm_bench.run.redact import scrub

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from polm_bench.run.mirror import RunContent

EXPERIMENT = "polm-bench"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # else the UI guesses, and may open on the traces of a chat agent
    "mlflow.note.content": "Records of polm-bench. A parent run is a configuration (its metrics are means over seeds); nested in it, a run per seed.",
}
BATCH_METRICS = 1000  # MLflow's limits for one log_batch
BATCH_PARAMS = 100


def track(record_path: Path, home: Path) -> None:
    """Mirror one record; any failure is a warning that names the command to repeat it."""
    if is_tracked(record_path, home):
        return
    try:
        _mirror(_client(home), record_path, home)
    except Exception as error:  # noqa: BLE001  MLflow being down or refusing a value never stops a run
        warn(f"the record {record_path.stem}", error)


def warn(what: str, error: Exception) -> None:
    """Say on stderr that MLflow refused something, and the command that repeats it."""
    reason = str(error).strip().splitlines()[:1]
    sys.stderr.write(
        f"warning: MLflow did not take {what} ({type(error).__name__}: {scrub(''.join(reason))}). "
        "The record itself is safe; `polm-bench track replay` mirrors it later.\n"
    )


def replay(home: Path) -> int:
    """Bring MLflow level with the records under `home`; the number of records that were missing or had changed.

    Asks MLflow itself rather than the markers, so it also mends a database that was deleted.
    Raises PolmError when MLflow can't be reached or refuses a record.
    """
    count = 0
    paths = sorted((home / "records").glob("*.json"))
    if not paths:
        return 0
    try:
        client = _client(home)
        for path in paths:
            count += _mirror(client, path, home)
    except Exception as error:
        raise PolmError(f"MLflow at {tracking_uri(home)} did not take the records: {error}") from error
    return count


def is_tracked(record_path: Path, home: Path) -> bool:
    """Whether this content of the record is in the MLflow store in use; imports nothing heavy and asks no server."""
    uri = tracking_uri(home)
    if uri == _sqlite(home) and not (home / "mlflow.db").is_file():
        return False
    marker = _marker(record_path, home)
    return marker.is_file() and marker.read_text() == _mark(record_path, uri)


def tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else SQLite under `home`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(home)


def initialise(home: Path) -> str:
    """Make the database and the experiment if need be; the experiment's id.

    Under a lock: of several processes that open a fresh SQLite database at once, all fail in its migrations.
    """
    return _experiment(_client(home), home)


def _client(home: Path) -> MlflowClient:
    # One telemetry look-up per process and minutes of retries are MLflow's defaults; an explicit setting wins.
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }.items():
        os.environ.setdefault(name, value)
    import logging

    from filelock import FileLock
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "mlflow.lock"):
        client = MlflowClient(tracking_uri=tracking_uri(home))
        client.search_experiments(max_results=1)
    return client


def _experiment(client: MlflowClient, home: Path) -> str:
    from filelock import FileLock

    with FileLock(home / "mlflow.lock"):
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        if os.environ.get("MLFLOW_TRACKING_URI"):
            return str(client.create_experiment(EXPERIMENT, tags=EXPERIMENT_TAGS))
        # MLflow's own default is ./mlruns of whatever folder the process was started in.
        place = home / "mlartifacts"
        place.mkdir(exist_ok=True)
        return str(client.create_experiment(EXPERIMENT, artifact_location=place.as_uri(), tags=EXPERIMENT_TAGS))


def _mirror(client: MlflowClient, record_path: Path, home: Path) -> bool:
    """Write one record's runs unless they are there; whether anything was written."""
    from filelock import FileLock

    record = json.loads(record_path.read_text(encoding="utf-8"))
    digest = _digest(record_path)
    experiment = _experiment(client, home)
    with FileLock(home / "mlflow-runs.lock"):
        known = _find(client, experiment, "polm.record", record["id"])
        whole = [run for run in known if run.data.tags.get("polm.digest") == digest]
        for run in known:
            if run not in whole[:1]:  # an older content of the record, or what a killed process left
                client.delete_run(run.info.run_id)
        if not whole:
            parent = _parent(client, experiment, record)
            _write_child(client, experiment, parent, record_path, record, digest)
            _update_parent(client, experiment, parent)
    marker = _marker(record_path, home)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(_mark(record_path, tracking_uri(home)))
    return not whole


def _parent(client: MlflowClient, experiment: str, record: dict[str, Any]) -> str:
    content = group_of(record)
    found = _find(client, experiment, "polm.group", content.tags["polm.group"])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    if parents:
        return str(parents[0].info.run_id)
    run = client.create_run(experiment, start_time=content.start_ms, tags=content.tags, run_name=content.name)
    _log(client, run.info.run_id, content)
    client.log_text(run.info.run_id, content.description, "description.md")
    return str(run.info.run_id)


def _write_child(
    client: MlflowClient, experiment: str, parent: str, path: Path, record: dict[str, Any], digest: str
) -> None:
    content = child_of(record)
    tags = {**content.tags, "mlflow.parentRunId": parent}
    run_id = client.create_run(experiment, start_time=content.start_ms, tags=tags, run_name=content.name).info.run_id
    _log(client, run_id, content)
    client.log_text(run_id, content.record, "record.json")
    client.log_text(run_id, content.config, "config.yaml")
    client.log_text(run_id, content.description, "description.md")
    items = record.get("items", {}).get("self")
    if items and (path.parent / items).is_file():
        client.log_artifact(run_id, str(path.parent / items), "items")
    client.set_tag(run_id, "polm.digest", digest)  # last: a run without it is not whole
    client.set_terminated(run_id, "FINISHED" if record["status"] == "ok" else "FAILED", content.end_ms)


def _update_parent(client: MlflowClient, experiment: str, parent: str) -> None:
    from mlflow.entities import Metric, RunTag

    children = _find(client, experiment, "mlflow.parentRunId", parent)
    finished = [run for run in children if run.data.tags.get("status") == "ok"]
    means = mean_over_seeds([run.data.metrics for run in finished])
    end = max(run.info.end_time or run.info.start_time for run in children)
    means |= {"seeds/ok": float(len(finished)), "seeds/all": float(len(children))}
    status = "ok" if len(finished) == len(children) else f"{len(children) - len(finished)} of {len(children)} failed"
    # The step is the number of seeds, so that the parent's charts show how a mean settles.
    metrics = [Metric(name, value, end, len(children)) for name, value in means.items()]
    tags = [RunTag("status", status), RunTag("seeds", ",".join(sorted(run.data.tags["seed"] for run in children)))]
    for start in range(0, len(metrics), BATCH_METRICS):
        client.log_batch(parent, metrics=metrics[start : start + BATCH_METRICS])
    client.log_batch(parent, tags=tags)
    client.set_terminated(parent, "FINISHED" if finished else "FAILED", end)


def _log(client: MlflowClient, run_id: str, content: RunContent) -> None:
    """Params, metrics and curves in as few calls as MLflow's limits allow (each call costs 25 ms or more)."""
    from mlflow.entities import Metric, Param

    params = [Param(name, value) for name, value in content.params.items()]
    metrics = [Metric(name, value, content.end_ms, 0) for name, value in content.metrics.items()]
    metrics += [Metric(point.name, point.value, content.end_ms, point.step) for point in content.curves]
    while params or metrics:
        room = BATCH_METRICS - len(params[:BATCH_PARAMS])
        client.log_batch(run_id, params=params[:BATCH_PARAMS], metrics=metrics[:room])
        params, metrics = params[BATCH_PARAMS:], metrics[room:]


def _find(client: MlflowClient, experiment: str, tag: str, value: str) -> list[Run]:
    return list(client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'", max_results=1000))


def _sqlite(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def _digest(record_path: Path) -> str:
    return hashlib.sha256(record_path.read_bytes()).hexdigest()[:16]


def _marker(record_path: Path, home: Path) -> Path:
    return home / "tracked" / record_path.stem


def _mark(record_path: Path, uri: str) -> str:
    return f"{_digest(record_path)} {hashlib.sha256(uri.encode()).hexdigest()[:16]}\n"
