"""A tuned record's trials in MLflow: one parent run for the study, one run nested in it for each trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.run.mirror import mlflow_name
from polm_bench.run.track import initialise, tracking_uri, warn

if TYPE_CHECKING:
    from mlflow import MlflowClient

STUDY = "polm.study"


def track_trials(path: Path, home: Path) -> None:
    """Mirror the trials of a record; any failure is a warning, as the record is the truth."""
    record = json.loads(path.read_text())
    try:
        experiment = initialise(home)
        from mlflow import MlflowClient

        _mirror(MlflowClient(tracking_uri=tracking_uri(home)), experiment, record)
    except Exception as error:  # noqa: BLE001  MLflow being down or refusing a value never stops a run
        warn(f"the trials of {path.stem}", error)


def replay_trials(home: Path) -> int:
    """Mirror the trials of all tuned records under `home` again; how many records those are."""
    paths = [path for path in sorted((home / "records").glob("*.json")) if "tuning" in json.loads(path.read_text())]
    for path in paths:
        track_trials(path, home)
    return len(paths)


def _mirror(client: MlflowClient, experiment: str, record: dict[str, Any]) -> None:
    tuning = record["tuning"]
    name = f"{tuning['study']} ({tuning['trials']} trials)"
    known = client.search_runs([experiment], f"tags.`{STUDY}` = '{name}'", max_results=1000)
    for run in known:  # what a killed process left, or an older one of the same study
        client.delete_run(run.info.run_id)
    tags = {STUDY: name, "polm.kind": "tuning", "polm.record": record["id"], "recipe": record["cell"]["recipe"]}
    parent = client.create_run(experiment, run_name=f"tune {name}", tags=tags).info.run_id
    for setting, value in tuning["chosen"].items():
        client.log_param(parent, mlflow_name(f"recipe.{setting}"), value)
    client.log_param(parent, "tuning.by", tuning["by"])
    for after in tuning["best_after"]:
        for curve in ("best", "expected"):
            if after[curve] is not None:
                client.log_metric(parent, f"validation/{curve}_after", after[curve], step=after["trials"])
    for trial in tuning["tried"]:
        _trial(client, experiment, parent, trial, name, trial["number"] == tuning["best"])
    client.set_terminated(parent)


def _trial(client: MlflowClient, experiment: str, parent: str, trial: dict[str, Any], name: str, chosen: bool) -> None:
    tags = {"mlflow.parentRunId": parent, STUDY: name, "polm.kind": "trial", "status": trial["status"]}
    tags |= {"polm.chosen": str(chosen).lower(), "reason": (trial["reason"] or "")[:500]}
    run = client.create_run(experiment, run_name=f"trial {trial['number']}", tags=tags).info.run_id
    for setting, value in trial["settings"].items():
        client.log_param(run, mlflow_name(f"recipe.{setting}"), value)
    if trial["value"] is not None:
        client.log_metric(run, "validation/score", trial["value"])
    client.log_metric(run, "cost/wall_seconds", trial["seconds"])
    client.set_terminated(run, "FINISHED" if trial["status"] == "ok" else "FAILED")
