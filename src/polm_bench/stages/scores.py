"""What every judging stage leaves: `scores.json`, a line of each score, and `items.parquet`, a row of each task, item and metric."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]

SCORES, ITEMS = "scores.json", "items.parquet"


def score(
    task: str,
    metric: str,
    value: float,
    stderr: float | None,
    n: int,
    *,
    higher_is_better: bool = True,
    headline: bool = False,
    template_hash: str = "none",
) -> Json:
    """A score of a probe: no filter, no examples in the prompt, and the first version of its task."""
    return {
        "task": task,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "n": n,
        "higher_is_better": higher_is_better,
        "filter": "none",
        "shots": 0,
        "template_hash": template_hash,
        "task_version": "1",
        "headline": headline,
    }


def mean_score(
    task: str,
    metric: str,
    values: Sequence[float],
    *,
    higher_is_better: bool = True,
    headline: bool = False,
    template_hash: str = "none",
) -> Json:
    """The mean of a value per item as a score, with its standard error where there are several."""
    n = len(values)
    return score(
        task,
        metric,
        statistics.fmean(values),
        statistics.stdev(values) / math.sqrt(n) if n > 1 else None,
        n,
        higher_is_better=higher_is_better,
        headline=headline,
        template_hash=template_hash,
    )


def sample(number: int, prompt: Any, values: Mapping[str, float], output: str, document: Json | None = None) -> Json:
    """An item of a probe as lm-eval has those of its tasks: values by metric, and what was said or computed."""
    return {
        "doc": document or {"id": str(number)},
        "doc_id": number,
        "prompt_hash": hashlib.sha256(json.dumps(prompt).encode()).hexdigest(),
        "filter": "none",
        "metrics": list(values),
        **values,
        "resps": [[output]],
    }


def write(out: Path, scores: Sequence[Json], samples: Mapping[str, Sequence[Json]]) -> None:
    """Both files; `samples` are the items of each task."""
    (out / SCORES).write_text(json.dumps(scores, indent=1))
    _write_items(samples, out / ITEMS)


def _write_items(samples: Mapping[str, Sequence[Json]], path: Path) -> None:
    """One row per task, item and metric; `weight` is the item's bytes for bits per byte, else 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for task in sorted(samples) for sample in samples[task] for row in _item_rows(task, sample)]
    rows.sort(key=lambda row: (row["task"], row["item"], row["metric"]))
    text, number = pa.string(), pa.float64()
    kinds = {
        "task": text,
        "item": text,
        "cluster": text,
        "prompt_hash": text,
        "metric": text,
        "score": number,
        "weight": number,
    }
    schema = pa.schema([*kinds.items(), ("output", text)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _item_rows(task: str, sample: Json) -> Iterator[Json]:
    document = sample["doc"] if isinstance(sample["doc"], dict) else {}
    item = str(document.get("id", sample["doc_id"]))
    for metric in sample["metrics"]:
        value, weight = sample[metric], 1.0
        if metric == "bits_per_byte":  # lm-eval keeps (log-likelihood in nats, bytes)
            weight = float(value[1])
            value = -value[0] / (weight * math.log(2))
        if isinstance(value, bool | int | float):
            yield {
                "task": task,
                "item": item,
                "cluster": str(document.get("cluster", item)),
                "prompt_hash": sample["prompt_hash"][:16],
                "metric": metric if sample["filter"] in ("none", "strict-match") else f"{metric},{sample['filter']}",
                "score": float(value),
                "weight": weight,
                "output": _output(sample),
            }


def _output(sample: Json) -> str:
    """The answer's text; for scored choices, the log-likelihood of each to a thousandth of a nat."""
    first = sample["resps"][0][0]
    if isinstance(first, str):
        return first
    values = [answer[0][0] if isinstance(answer[0], list | tuple) else answer[0] for answer in sample["resps"]]
    return json.dumps([round(float(value), 3) for value in values])
