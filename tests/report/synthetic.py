"""Records as a run writes them, with scores drawn from a known world: item difficulty, skill of a method, luck of a seed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SKILL = {"base": 0.0, "sft": 1.0, "lora": 0.6, "dpo": 1.6, "simpo": 1.5, "kto": 1.0}
"""Logits that a recipe adds to the chance of a right answer."""

TASKS = {"arithmetic": "exact_match", "instructions": "prompt_acc", "steering": "reward", "text": "bits_per_byte"}
VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.17.0"}


def key_of(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:12]


def items_of(skill: float, luck: float, draw: int, count: int) -> list[dict[str, Any]]:
    """Items of one evaluation, one dict per task, item and metric."""
    world, own = np.random.default_rng(7), np.random.default_rng([8, draw])
    rows = []
    for task, metric in TASKS.items():
        hard, noise = world.normal(-0.5, 1, count), own.normal(0, 0.7, count)
        size = world.integers(40, 400, count)
        for i in range(count):
            shift = skill + luck - hard[i] + noise[i]
            cluster, weight = f"{task}-{i:04d}", 1.0
            if task == "text":  # three pieces of one article; lower is better
                cluster, weight, score = f"article-{i // 3}", float(size[i]), 3.0 - 0.1 * shift
            elif task == "steering":
                score = float(np.tanh(shift / 2))
            else:
                score = float(shift > 0.5)
            rows.append(
                {
                    "task": task,
                    "item": f"{task}-{i:04d}",
                    "cluster": cluster,
                    "prompt_hash": key_of(task, i),
                    "metric": metric,
                    "score": float(score),
                    "weight": weight,
                    "output": f"answer {i}: {score:.3f}",
                }
            )
    return rows


def scores_of(row: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task, metric in TASKS.items():
        own = [item for item in items if item["task"] == task]
        value = np.average([item["score"] for item in own], weights=[item["weight"] for item in own])
        found.append(score(row, task, metric, float(value), n=len(own), higher_is_better=task != "text"))
    # A figure of the whole set: no item has it.
    return [*found, score(row, "steering", "distinct_2", 0.4, n=len(own), headline=False)]


def score(row: str, task: str, metric: str, value: float, **changes: Any) -> dict[str, Any]:
    found = {
        "row": row,
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": None,
        "n": 0,
        "higher_is_better": True,
    }
    found |= {"filter": "none", "shots": 0, "template_hash": "abcdef012345", "task_version": "1", "headline": True}
    return found | changes


def write_items(folder: Path, key: str, items: list[dict[str, Any]]) -> str:
    path = folder / "items" / f"{key}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        pq.write_table(pa.Table.from_pylist(items), path)
    return f"items/{key}.parquet"


def make_record(recipe: str = "dpo", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A record without scores and items; `changes` replace its top-level values, `place` its groups' names."""
    place = {"model": "nano", "data": "nano", "budget": "nano", "suite": "nano"} | changes.pop("place", {})
    self_key = key_of("evaluate", recipe, seed, place) if recipe != "base" else key_of("evaluate base", place)
    rows = {"self": self_key, "base": key_of("evaluate base", place)}
    if recipe in ("dpo", "simpo", "kto"):
        rows["start"] = key_of("evaluate start", seed, place)
    trained = 0 if recipe == "base" else 400_000
    config = {
        "recipe": {"lr": 1e-6, "loss": {"beta": 0.1}},
        "budget": {"name": place["budget"], "unit": "steps", "amount": 200.0, "trials": 1},
        "seed": seed,
    }
    digest = key_of("record", recipe, seed, place)
    record = {
        "schema": 1,
        "id": "-".join([recipe, *place.values(), f"s{seed}", digest]),
        "cell": {
            "recipe": recipe,
            **place,
            "seed": seed,
            "config": config,
            "origins": {"recipe.lr": f"conf/recipe/{recipe}.yaml"},
        },
        "recipe": {
            "title": recipe.upper(),
            "paradigm": "alignment",
            "family": "preference",
            "paper": "arXiv:0000.00000",
        },
        "status": "ok",
        "reason": None,
        "stages": [
            stage("TrainSFT", 0, recipe != "sft" and recipe != "base", 41.0),
            stage("Evaluate", seed, False, 20.0),
        ],
        "rows": rows,
        "scores": [],
        "items": {},
        "curves": [],
        "cost": {
            "wall_seconds": 80.0 + seed if trained else 0,
            "shared_wall_seconds": 41.0 if trained else 0,
            "device_seconds": 70.0,
            "tokens_trained": trained,
            "tokens_generated": 0,
            "flops": trained * 2.1e7 * (2 if recipe in ("dpo", "kto") else 1),
            "flops_method": "counted",
            "peak_host_bytes": 1_200_000_000,
            "peak_device_bytes": 0,
            "trainable_params": 3_500_000 if trained else 0,
            "total_params": 3_500_000,
            "served_bytes": 7_100_000,
            "prefill_tokens_per_second": 20_000.0,
            "decode_tokens_per_second": 3100.0,
            "evaluation_seconds": 20.0,
            "load_seconds": 0.1,
            "serve_peak_bytes": 700_000_000,
            "tokens_per_answer": 21.5,
        },
        "provenance": {
            "versions": VERSIONS,
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "model": {"path": "package:nano"},
            "data": {"name": "nano"},
            "machine": {"processor": "a CPU", "cores": 2, "devices": []},
            "threads": 1,
            "command": f"polm-bench run +recipe={recipe} seed={seed}",
            "started": "2026-11-20T10:00:00+00:00",
            "finished": f"2026-11-20T10:0{seed}:30+00:00",
        },
    }
    return record | changes


def stage(kind: str, seed: int, shared: bool, seconds: float) -> dict[str, Any]:
    ledger = {"wall_seconds": seconds, "tokens_trained": 1000, "flops": 1e12, "peak_host_bytes": 10**9}
    return {"key": key_of(kind, seed), "kind": kind, "status": "done", "shared": shared, "ledger": ledger}


def write_record(folder: Path, recipe: str = "dpo", seed: int = 0, *, count: int = 120, **changes: Any) -> Path:
    """Write a record with scores and items; a status other than ok leaves both out."""
    record = make_record(recipe, seed, **changes)
    if record["status"] == "ok":
        for row, key in record["rows"].items():
            who = {"self": recipe, "base": "base", "start": "sft"}[row]
            luck = 0.0 if who == "base" else float(np.random.default_rng([9, seed]).normal(0, 0.1))
            items = items_of(SKILL[who], luck, int(key, 16) % 2**31, count)
            record["items"][row] = write_items(folder, key, items)
            record["scores"] += scores_of(row, items)
    return write_json(folder, record)


def write_json(folder: Path, record: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['id']}.json"
    path.write_text(json.dumps(record, indent=1))
    return path


def write_spine(folder: Path, recipes: tuple[str, ...] = tuple(SKILL), seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    for recipe in recipes:
        for seed in seeds:
            write_record(folder, recipe, seed)
    return folder
