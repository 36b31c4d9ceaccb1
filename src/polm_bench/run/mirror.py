"""What MLflow is told about a record: names, params, metrics, curves, tags and a short description."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from polm_bench.run.redact import is_secret, redact_record, redact_text

GROUPS = ("model", "recipe", "data", "budget", "suite")
LONGEST_PARAM = 2000  # characters; a database column takes 8,000, a remote server may take less
LONGEST_TAG = 2000
SHORTEST = 250  # what every server takes: the limit of MLflow 1
KIND = "mean over seeds"
POINTS_PER_CURVE = 1000


class Point(NamedTuple):
    """One value of a training curve."""

    name: str
    step: int
    value: float


class RunContent(NamedTuple):
    """All that one MLflow run is told."""

    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    curves: list[Point]
    tags: dict[str, str]
    description: str
    record: str  # JSON without secrets; empty for a parent
    config: str  # YAML of the resolved cell; empty for a parent
    start_ms: int
    end_ms: int


def child_of(record: dict[str, Any]) -> RunContent:
    """The run of one seed: everything the record says."""
    safe = redact_record(record)
    cell = safe["cell"]
    text = describe(safe)
    return RunContent(
        name=record["id"],
        params=params_of(cell) | {"seed": str(cell["seed"])},
        metrics=metrics_of(record),
        curves=list(curves_of(record)),
        tags=tags_of(safe) | {"polm.record": record["id"], "seed": str(cell["seed"]), "mlflow.note.content": text},
        description=text,
        record=json.dumps(safe, indent=1, ensure_ascii=False),
        config=_yaml(cell),
        start_ms=_ms(record["provenance"]["started"]),
        end_ms=_ms(record["provenance"]["finished"]),
    )


def group_of(record: dict[str, Any]) -> RunContent:
    """The parent run of all seeds of one configuration; its metrics come later, from the children."""
    safe = redact_record(record)
    cell = safe["cell"]
    changed = [name for name, origin in sorted(cell.get("origins", {}).items()) if _is_changed(name, origin)]
    name = "-".join(cell[group] for group in ("recipe", "model", "data", "budget", "suite"))
    values = params_of(cell)
    shown = " ".join(f"{item}={values[item]}" for item in changed if item in values)
    tags = tags_of({**safe, "reason": None}) | {"polm.group": _group_key(record), "polm.kind": KIND}
    text = f"Mean over seeds of {_title(safe)} on `{cell['model']}`, data `{cell['data']}`; one nested run per seed."
    return RunContent(
        name=f"{name} {shown}".strip()[:200],
        params=values,
        metrics={},
        curves=[],
        tags=tags | {"mlflow.note.content": text},
        description=text + "\n",
        record="",
        config="",
        start_ms=_ms(record["provenance"]["started"]),
        end_ms=_ms(record["provenance"]["finished"]),
    )


def cut(content: RunContent, longest: int | None) -> RunContent:
    """The same with params and tags of at most `longest` characters; its record has them whole."""
    if longest is None:
        return content
    params, tags = (
        {name: _short(text, longest) for name, text in told.items()} for told in (content.params, content.tags)
    )
    return content._replace(params=params, tags=tags)


def params_of(cell: dict[str, Any]) -> dict[str, str]:
    """Every resolved value of the cell as `group.name`, and the chosen name of each group; no seed, no secrets."""
    params = {group: str(cell[group]) for group in GROUPS}
    for group in GROUPS:
        for name, value in _flatten(cell["config"].get(group), group):
            if not is_secret(name):
                params.setdefault(mlflow_name(name), _short(redact_text(_text(value)), LONGEST_PARAM))
    return params


def metrics_of(record: dict[str, Any]) -> dict[str, float]:
    """Scores as `task/metric`, with `/stderr`, `/n` and `/vs_base`, and costs as `cost/...`."""
    scores = record.get("scores", [])
    own = [score for score in scores if score["row"] == "self"]
    base = {_score_id(score): score["value"] for score in scores if score["row"] == "base"}
    filters = Counter((score["task"], score["metric"]) for score in own)
    found: dict[str, float | None] = {}
    for score in own:
        suffix = f"/{score['filter']}" if filters[score["task"], score["metric"]] > 1 else ""
        name = mlflow_name(f"{score['task']}/{score['metric']}{suffix}")
        found[name] = score["value"]
        found[f"{name}/stderr"] = score.get("stderr")
        found[f"{name}/n"] = score.get("n")
        if (before := base.get(_score_id(score))) is not None:
            found[f"{name}/vs_base"] = score["value"] - before
    for name, value in record.get("cost", {}).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[mlflow_name(f"cost/{name}")] = value
    return {name: float(value) for name, value in found.items() if value is not None}


def curves_of(record: dict[str, Any]) -> Iterator[Point]:
    """Training curves as `train/<stage kind>/<name>`, thinned to POINTS_PER_CURVE; the last point always stays."""
    curves = record.get("curves", [])
    kinds = Counter(curve["kind"] for curve in curves)
    for curve in curves:
        stage = curve["kind"] if kinds[curve["kind"]] == 1 else f"{curve['kind']}-{curve['stage']}"
        points = curve["points"]
        stride = math.ceil(len(points) / POINTS_PER_CURVE) or 1
        for point in points[::-1][::stride][::-1]:
            for name, value in point.items():
                if name != "step" and isinstance(value, int | float):
                    yield Point(mlflow_name(f"train/{stage}/{name}"), int(point["step"]), float(value))


def tags_of(record: dict[str, Any]) -> dict[str, str]:
    """What the UI filters and groups by: groups, paradigm, family, paper, axes and status."""
    recipe, provenance = record["recipe"], record["provenance"]
    tags = {group: record["cell"][group] for group in GROUPS}
    tags |= {name: recipe.get(name) for name in ("title", "paradigm", "family", "paper")}
    axes = recipe.get("axes") or {}
    # Where our label of an axis differs from the survey's, ours wins and the survey's stays beside it.
    tags |= {mlflow_name(f"axis.{axis}"): _text(label) for axis, label in (axes.get("survey") or {}).items()}
    for axis, label in (axes.get("ours") or {}).items():
        name = mlflow_name(f"axis.{axis}")
        if name in tags:
            tags[f"{name}.survey"] = tags[name]
        tags[name] = _text(label)
    tags |= {"status": record["status"], "reason": record.get("reason")}
    tags |= {"mlflow.source.name": provenance.get("command"), "mlflow.source.type": "JOB"}
    tags |= {"mlflow.source.git.commit": (provenance.get("git") or {}).get("commit")}
    return {name: _short(str(value), LONGEST_TAG) for name, value in tags.items() if value}


def describe(record: dict[str, Any]) -> str:
    """Short Markdown: the method, its headline scores beside the base's, the cost and the command."""
    cell, recipe = record["cell"], record["recipe"]
    lines = [f"**{_title(record)}** ({recipe.get('paradigm', '?')}, {recipe.get('paper') or 'no paper'})", ""]
    lines += [f"Model `{cell['model']}`, data `{cell['data']}`, budget `{cell['budget']}`, suite `{cell['suite']}`."]
    if record["status"] != "ok":
        lines += ["", f"Ended as **{record['status']}**: {record.get('reason') or 'no reason recorded'}"]
    scores = record.get("scores", [])
    base = {_score_id(score): score["value"] for score in scores if score["row"] == "base"}
    own = [score for score in scores if score["row"] == "self" and score.get("headline")]
    if own:
        lines += ["", "| task | metric | base | this run | n |", "| --- | --- | --- | --- | --- |"]
    for score in own:
        before = base.get(_score_id(score))
        shown = "" if before is None else f"{before:.4g}"
        better = "higher" if score["higher_is_better"] else "lower"
        metric = f"{score['metric']} ({better} is better)"
        lines.append(f"| {score['task']} | {metric} | {shown} | {score['value']:.4g} | {score['n']} |")
    seconds = record.get("cost", {}).get("wall_seconds")
    if seconds is not None:
        lines += ["", f"Took {seconds:,.0f} s."]
    if record["provenance"].get("command"):
        lines += ["", f"    {record['provenance']['command']}"]
    return "\n".join(lines) + "\n"


def mean_over_seeds(children: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each score and cost over the seeds that have it; standard errors and training curves have no mean here.

    A score has beside it how many seeds those are (`/seeds`) and, of two or more, its mean's 95 % interval by Student's t (`/low`, `/high`).
    """
    from polm_bench.stats import seed_difference  # numpy is half of what a cached run would import

    names = {name for metrics in children for name in metrics if not name.startswith(("train/", "seeds/"))}
    found: dict[str, float] = {}
    for name in sorted(name for name in names if not name.endswith("/stderr")):
        values = [metrics[name] for metrics in children if name in metrics]
        found[name] = _mean(values)
        if name.startswith("cost/") or name.endswith("/n"):
            continue
        found[f"{name}/seeds"] = float(len(values))
        if (spread := seed_difference(values)) is not None:
            found |= {f"{name}/low": spread.low, f"{name}/high": spread.high}
    return found


def mlflow_name(name: str) -> str:
    """A name MLflow takes: lm-eval's `acc,none` becomes `acc/none`; other characters it rejects become `_`."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace(",", "/"))


def _group_key(record: dict[str, Any]) -> str:
    cell = record["cell"]
    config = {group: cell["config"].get(group) for group in GROUPS}
    text = json.dumps([[cell[group] for group in GROUPS], config], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_changed(name: str, origin: str) -> bool:
    return origin == "command line" and "." in name and not is_secret(name)


def _score_id(score: dict[str, Any]) -> tuple[str, str, str]:
    return score["task"], score["metric"], score["filter"]


def _title(record: dict[str, Any]) -> str:
    return str(record["recipe"].get("title") or record["cell"]["recipe"])


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _flatten(item, f"{prefix}.{name}")
    elif value is not None:
        yield prefix, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest - 40]}... (cut; {len(text)} characters in all)"


def _yaml(cell: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(cell, sort_keys=False, allow_unicode=True)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _ms(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
