"""Mirrors records into MLflow: a parent run per (model, recipe, data, budget, suite) and a child run per seed.

Reads records and their items, nothing else, so the mirror can be rebuilt at any time. The record is the truth: whatever
MLflow does, a run goes on.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.errors import PolmError
from polm_bench.run.mlflow_runs import REFUSAL, drop_doubles, write_record
from polm_bench.run.redact import scrub

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "polm-bench"
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # else the UI guesses, and may open on the traces of a chat agent
    "mlflow.note.content": "Records of polm-bench. A parent run is a configuration (its metrics are means over seeds); nested in it, a run per seed.",
}
LOCK_SECONDS = 60  # to wait for another process that mirrors into the same database
BUSY_SECONDS = 10  # to wait for a database that somebody else has locked; MLflow would wait 20 for every statement
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
HURRIED = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}  # a run doesn't wait for a server
PATIENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}  # what is late is caught up with


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

    Asks MLflow itself rather than the markers, so it also mends a database that was deleted, and what a slow server did after it was given up.
    Raises PolmError when MLflow can't be reached, and, with the others mirrored, when it refuses a record.
    """
    paths = sorted((home / "records").glob("*.json"))
    if not paths:
        return 0
    from filelock import FileLock

    count = 0
    refused: list[str] = []
    try:
        client = _client(home, PATIENT)
        for path in paths:
            try:
                count += _mirror(client, path, home)
            except Exception as error:
                if getattr(error, "error_code", None) != REFUSAL:
                    raise
                refused.append(f"{path.stem}: {error}")
        experiment = _experiment(client, home)
        with FileLock(home / "mlflow-runs.lock", LOCK_SECONDS):
            drop_doubles(client, experiment)
    except Exception as error:
        raise PolmError(f"MLflow at {tracking_uri(home)} did not take the records: {error}") from error
    if refused:
        raise PolmError(f"MLflow at {tracking_uri(home)} refused {len(refused)} of {len(paths)} records. {refused[0]}")
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


def _client(home: Path, waiting: Mapping[str, str] = HURRIED) -> MlflowClient:
    # One telemetry look-up per process, a line on stdout per run and minutes of retries are MLflow's defaults; an explicit setting wins.
    for name, value in {**QUIET, **waiting}.items():
        os.environ.setdefault(name, value)
    from filelock import FileLock
    from mlflow import MlflowClient

    quiet()
    home.mkdir(parents=True, exist_ok=True)
    if tracking_uri(home) == _sqlite(home):
        _must_be_free(home / "mlflow.db")
    with FileLock(home / "mlflow.lock", LOCK_SECONDS):
        client = MlflowClient(tracking_uri=tracking_uri(home))
        client.search_experiments(max_results=1)
    return client


def quiet() -> None:
    """Keep MLflow from telling its migrations, and from tracebacks of what we warn of in a line."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _must_be_free(database: Path) -> None:
    """Raises sqlite3.OperationalError where the database stays locked."""
    with closing(sqlite3.connect(database, BUSY_SECONDS, isolation_level=None)) as opened:
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("ROLLBACK")


def _experiment(client: MlflowClient, home: Path) -> str:
    from filelock import FileLock

    with FileLock(home / "mlflow.lock", LOCK_SECONDS):
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

    experiment = _experiment(client, home)
    with FileLock(home / "mlflow-runs.lock", LOCK_SECONDS):
        written = write_record(client, experiment, record_path, _digest(record_path))
    marker = _marker(record_path, home)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(_mark(record_path, tracking_uri(home)))
    return written


def _sqlite(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def _digest(record_path: Path) -> str:
    return hashlib.sha256(record_path.read_bytes()).hexdigest()[:16]


def _marker(record_path: Path, home: Path) -> Path:
    return home / "tracked" / record_path.stem


def _mark(record_path: Path, uri: str) -> str:
    return f"{_digest(record_path)} {hashlib.sha256(uri.encode()).hexdigest()[:16]}\n"
