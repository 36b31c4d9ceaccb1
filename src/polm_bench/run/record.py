"""The record of a cell: one JSON, and the items of its evaluations beside it, shared by content."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polm_bench.files import replacing, write_json
from polm_bench.graph import Stage, ordered
from polm_bench.run.execute import Outcome, Status
from polm_bench.run.ledger import total
from polm_bench.run.redact import scrubbed
from polm_bench.run.store import Store

SCHEMA = 1
SERVING = [
    "evaluation_seconds",
    "load_seconds",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "serve_peak_bytes",
    "cache_bytes",
    "tokens_per_answer",
    "served_bytes",
    "total_params",
]


def build(
    record_id: str,
    cell: Mapping[str, Any],
    recipe: Mapping[str, Any],
    model: Stage,
    evaluations: Mapping[str, Stage],
    probes: Mapping[str, Stage],
    outcomes: Sequence[Outcome],
    store: Store,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """A record, whole also for a cell that failed: it then has what was spent and no scores.

    `model` is the model that is judged, `evaluations` maps the rows self, base and start to the stages that put the suite to them, `probes` to
    those that score what no suite has.
    """
    failed = next((outcome for outcome in outcomes if outcome.status != "ok"), None)
    status: Status = failed.status if failed else "ok"
    return {
        "schema": SCHEMA,
        "id": record_id,
        "cell": dict(cell),
        "recipe": dict(recipe),
        "status": status,
        "reason": failed.reason if failed else None,
        "stages": [_stage(outcome) for outcome in outcomes],
        "rows": {row: stage.key for row, stage in {**probes, **evaluations}.items()},
        "scores": []
        if failed
        else [
            score
            for judges in (evaluations, probes)
            for row, stage in judges.items()
            for score in _scores(row, store.path(stage))
        ],
        "items": {}
        if failed
        else {
            row: f"items/{_items_name(row, evaluations, probes)}.parquet"
            for row in dict.fromkeys([*evaluations, *probes])
        },
        "curves": [
            {"stage": outcome.stage.key, "kind": type(outcome.stage).__name__, "points": outcome.curve}
            for outcome in outcomes
            if outcome.curve
        ],
        "cost": _cost(model, evaluations.get("self"), outcomes),
        "provenance": dict(provenance),
    }


def write(
    record: Mapping[str, Any],
    evaluations: Mapping[str, Stage],
    probes: Mapping[str, Stage],
    store: Store,
    folder: Path,
) -> Path:
    """Write items first and the record last; what is there is whole at any moment."""
    (folder / "items").mkdir(parents=True, exist_ok=True)
    for row, name in record["items"].items():
        target = folder / name
        if not target.exists():
            judges = [judge for judge in (evaluations.get(row), probes.get(row)) if judge is not None]
            with replacing(target) as beside:
                _copy_items([store.path(judge) / "items.parquet" for judge in judges], beside)
    path = folder / f"{record['id']}.json"
    write_json(path, scrubbed(record))
    return path


def _items_name(row: str, evaluations: Mapping[str, Stage], probes: Mapping[str, Stage]) -> str:
    """Rows with the same judges share their items."""
    return "-".join(judges[row].key for judges in (evaluations, probes) if row in judges)


def _copy_items(sources: Sequence[Path], target: Path) -> None:
    if len(sources) == 1:
        shutil.copyfile(sources[0], target)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.concat_tables([pq.read_table(source) for source in sources]), target, compression="zstd")


def _stage(outcome: Outcome) -> dict[str, Any]:
    return {
        "key": outcome.stage.key,
        "kind": type(outcome.stage).__name__,
        "status": "done" if outcome.status == "ok" else "failed",
        "shared": outcome.shared,
        "ledger": outcome.ledger,
    }


def _scores(row: str, folder: Path) -> list[dict[str, Any]]:
    return [{"row": row, **score} for score in json.loads((folder / "scores.json").read_text())]


def _cost(model: Stage, evaluation: Stage | None, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What making the model took, with all that it answers with (fetching the base and evaluating left out), and what serving it takes."""
    goals = evaluation.inputs if evaluation else (model,)
    making = {stage.key for stage in ordered(*goals) if stage.inputs}  # a stage without inputs fetches
    made = [outcome for outcome in outcomes if outcome.stage.key in making]
    cost = total(outcome.ledger for outcome in made)
    cost["shared_wall_seconds"] = round(sum(outcome.ledger["wall_seconds"] for outcome in made if outcome.shared), 3)
    cost["flops_method"] = next(
        (outcome.ledger["flops_method"] for outcome in outcomes if "flops_method" in outcome.ledger), None
    )
    own = {stage.key for stage in ordered(model)}
    last = next(
        (
            outcome.ledger
            for outcome in reversed(made)
            if outcome.stage.key in own and "trainable_params" in outcome.ledger
        ),
        {},
    )
    cost["trainable_params"] = last.get("trainable_params", 0)
    judge = evaluation.key if evaluation else None
    served = next((outcome.ledger for outcome in outcomes if outcome.stage.key == judge), {})
    return cost | {name: served.get(name) for name in SERVING}
