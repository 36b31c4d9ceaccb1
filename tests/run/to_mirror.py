"""Records for MLflow, and what a store holds of them."""

from __future__ import annotations

import json
from pathlib import Path

from polm_bench.run import track


def score(row: str, task: str, value: float, **changes) -> dict:
    found = {"row": row, "task": task, "metric": "acc", "value": value, "stderr": 0.01, "n": 500, "filter": "none"}
    found |= {"higher_is_better": True, "shots": 0, "template_hash": "t", "task_version": "1", "headline": True}
    return found | changes


def record(seed: int = 0, value: float = 0.5, **changes) -> dict:
    cell = {"recipe": "dpo", "model": "nano", "data": "nano", "budget": "smoke", "suite": "nano", "seed": seed}
    config = {
        "model": {"path": "package:nano", "lr_scale": 10.0},
        "recipe": {"lr": 1e-6, "loss": {"beta": 0.1, "_target_": "polm_bench.objectives.DPO"}},
        "data": {"name": "nano"},
        "budget": {"amount": 4.0, "unit": "steps"},
        "suite": {"tasks": {"nano_add": {"limit": 8}}},
        "seed": seed,
    }
    found = {
        "schema": 1,
        "id": f"dpo-nano-nano-smoke-nano-s{seed}-{seed:012x}",
        "cell": {**cell, "config": config, "origins": {"recipe.lr": "conf/recipe/dpo.yaml"}},
        "recipe": {
            "title": "DPO",
            "paradigm": "alignment",
            "family": "preference",
            "paper": "arXiv:2305.18290",
            "axes": {"survey": {"feedback": "pairwise"}, "ours": {}},
        },
        "status": "ok",
        "reason": None,
        "scores": [score("base", "nano_add", 0.25), score("self", "nano_add", value)],
        "items": {"self": "items/abc.parquet"},
        "curves": [
            {"stage": "k1", "kind": "TrainPairs", "points": [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6}]}
        ],
        "cost": {"wall_seconds": 12.0 + seed, "flops": 1e12, "flops_method": "counted"},
        "provenance": {
            "started": "2026-11-20T10:00:00+00:00",
            "finished": "2026-11-20T10:00:12+00:00",
            "command": "polm-bench run +recipe=dpo budget=smoke",
            "git": {"commit": "0" * 40, "dirty": False},
        },
    }
    return found | changes


def write(home: Path, content: dict) -> Path:
    folder = home / "records"
    (folder / "items").mkdir(parents=True, exist_ok=True)
    (folder / "items" / "abc.parquet").write_bytes(b"PAR1 stands for the items")
    path = folder / f"{content['id']}.json"
    path.write_text(json.dumps(content))
    return path


def runs(home: Path) -> tuple[list, list]:
    """(parents, children) in the store."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=track.tracking_uri(home))
    experiment = client.get_experiment_by_name("polm-bench")
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, [run for run in found if "mlflow.parentRunId" in run.data.tags]
