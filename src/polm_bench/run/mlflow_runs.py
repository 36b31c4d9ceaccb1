"""The runs of a record in MLflow, written so that what is half there is known for it and made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.run.mirror import KIND, SHORTEST, child_of, cut, group_of, mean_over_seeds

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from polm_bench.run.mirror import RunContent

BATCH_METRICS = 1000  # MLflow's limits for one log_batch
BATCH_PARAMS = 100
WHOLE = "polm.digest"  # a tag that a run gets last
REFUSAL = "INVALID_PARAMETER_VALUE"  # MLflow's code for a value it doesn't take, such as one that is too long for it


def write_record(client: MlflowClient, experiment: str, path: Path, digest: str) -> bool:
    """Make the record's run, with its parent, unless it is there with this digest; whether anything was written.

    Call it under a lock. A server that refuses a long value gets shorter ones.
    """
    from mlflow.exceptions import MlflowException

    record = json.loads(path.read_text(encoding="utf-8"))
    known = _find(client, experiment, "polm.record", record["id"])
    whole = [run for run in known if run.data.tags.get(WHOLE) == digest]
    for run in known:
        if run not in whole[:1]:  # an older content of the record, or what a killed process left
            client.delete_run(run.info.run_id)
    if whole:
        return False
    try:
        _write(client, experiment, path, record, digest)
    except MlflowException as refused:
        if refused.error_code != REFUSAL:
            raise
        _delete_begun(client, experiment, record)
        _write(client, experiment, path, record, digest, SHORTEST)
    return True


def drop_doubles(client: MlflowClient, experiment: str) -> None:
    """One parent a group: a server that answers too late makes a run for each attempt. Call it under a lock."""
    first: dict[str, str] = {}
    for run in sorted(_find(client, experiment, "polm.kind", KIND), key=lambda run: WHOLE not in run.data.tags):
        kept = first.setdefault(run.data.tags["polm.group"], run.info.run_id)
        if kept == run.info.run_id:
            continue
        children = _find(client, experiment, "mlflow.parentRunId", run.info.run_id)
        for child in children:
            client.set_tag(child.info.run_id, "mlflow.parentRunId", kept)
        client.delete_run(run.info.run_id)
        if children:
            _update_parent(client, experiment, kept)


def _write(
    client: MlflowClient,
    experiment: str,
    path: Path,
    record: dict[str, Any],
    digest: str,
    longest: int | None = None,
) -> None:
    """The record's run and its parent's means; values longer than `longest` characters are cut."""
    parent = _parent(client, experiment, cut(group_of(record), longest))
    run = _write_child(client, experiment, parent, path, record, cut(child_of(record), longest))
    _update_parent(client, experiment, parent)
    client.set_tag(run, WHOLE, digest)


def _delete_begun(client: MlflowClient, experiment: str, record: dict[str, Any]) -> None:
    """Delete what an attempt left that was refused; params can't be changed."""
    begun = _find(client, experiment, "polm.record", record["id"])
    for run in begun + _find(client, experiment, "polm.group", group_of(record).tags["polm.group"]):
        if WHOLE not in run.data.tags:
            client.delete_run(run.info.run_id)


def _parent(client: MlflowClient, experiment: str, content: RunContent) -> str:
    parents = _find(client, experiment, "polm.group", content.tags["polm.group"])
    for run in parents:
        if WHOLE in run.data.tags:
            return str(run.info.run_id)
    if parents:
        run_id = parents[0].info.run_id
    else:
        made = client.create_run(experiment, start_time=content.start_ms, tags=content.tags, run_name=content.name)
        run_id = made.info.run_id
    _log(client, run_id, content)
    client.log_text(run_id, content.description, "description.md")
    client.set_tag(run_id, WHOLE, "yes")
    return str(run_id)


def _write_child(
    client: MlflowClient, experiment: str, parent: str, path: Path, record: dict[str, Any], content: RunContent
) -> str:
    tags = {**content.tags, "mlflow.parentRunId": parent}
    made = client.create_run(experiment, start_time=content.start_ms, tags=tags, run_name=content.name)
    run_id = str(made.info.run_id)
    _log(client, run_id, content)
    client.log_text(run_id, content.record, "record.json")
    client.log_text(run_id, content.config, "config.yaml")
    client.log_text(run_id, content.description, "description.md")
    items = record.get("items", {}).get("self")
    if items and (path.parent / items).is_file():
        client.log_artifact(run_id, str(path.parent / items), "items")
    client.set_terminated(run_id, "FINISHED" if record["status"] == "ok" else "FAILED", content.end_ms)
    return run_id


def _update_parent(client: MlflowClient, experiment: str, parent: str) -> None:
    from mlflow.entities import Metric, RunTag

    found = _find(client, experiment, "mlflow.parentRunId", parent)
    # Of several attempts at one record, the one that got furthest counts.
    furthest = {run.data.tags["polm.record"]: run for run in sorted(found, key=lambda run: len(run.data.metrics))}
    children = list(furthest.values())
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
    found: list[Run] = []
    token = None
    while page := client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=1000, page_token=token):
        found += page
        if not (token := page.token):
            break
    return found
