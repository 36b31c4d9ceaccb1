"""What there is to choose from, read from the YAML files of conf/ and the records alone: no Hydra, no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from polm_bench.paths import conf_dir
from polm_bench.settings import chain, composed, file_of, options

KINDS = ("recipes", "models", "data", "suites", "budgets", "tables", "records")
GROUP_OF = {
    "recipes": "recipe",
    "models": "model",
    "data": "data",
    "suites": "suite",
    "budgets": "budget",
    "tables": "table",
}
NO_GROUPS = ("table", "published")  # folders of conf/ that overrides do not choose from
COMMENT = re.compile(r"^# ?(.*)$")
SETTING = re.compile(r"^(?P<indent> *)(?P<name>[\w.\-]+): *(?P<value>(?!#).*?)(?: *(?<!\S)# *(?P<source>.*))?$")

Row = dict[str, Any]


def groups() -> list[str]:
    """Names of the groups that overrides choose from."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir() and path.name not in NO_GROUPS)


def numbers(group: str, name: str) -> list[Row]:
    """Each setting of a value with the comment beside it (its source); the last file to set one wins."""
    found: dict[str, Row] = {}
    for path in chain(file_of(group, name)):
        place: list[tuple[int, str]] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            match = SETTING.match(line)
            if match is None:
                continue
            indent = len(match["indent"])
            place = [(depth, part) for depth, part in place if depth < indent] + [(indent, match["name"])]
            full = ".".join(part for _, part in place)
            if match["value"] and not full.startswith(("meta", "defaults")) and match["name"] != "_target_":
                row = {"setting": f"{group}.{full}", "value": match["value"], "source": match["source"] or ""}
                found[full] = row | {"file": f"conf/{group}/{path.name}"}
    return list(found.values())


def rows(kind: str, records: Path) -> list[Row]:
    """What there is of one kind, one mapping each; records are those of a folder."""
    if kind == "records":
        return [_record_row(path) for path in sorted(records.glob("*.json"))]
    group = GROUP_OF[kind]
    return [
        ROW_OF[kind](name, composed(file_of(group, name))) | {"about": _about(group, name)} for name in options(group)
    ]


def _recipe_row(name: str, found: Row) -> Row:
    meta = found.get("meta") or {}
    facts = {key: meta.get(key) for key in ("title", "paradigm", "family", "paper", "cost")}
    return {"name": name} | facts | {"shape": _class(found)}


def _model_row(name: str, found: Row) -> Row:
    return {"name": name} | {key: found.get(key) for key in ("path", "revision", "license")}


def _data_row(name: str, found: Row) -> Row:
    return {"name": name, "source": found.get("path") or _class(found)}


def _suite_row(name: str, found: Row) -> Row:
    return {"name": name, "tasks": list(found.get("tasks") or {})}


def _budget_row(name: str, found: Row) -> Row:
    return {"name": name} | {key: found.get(key) for key in ("amount", "unit", "batch", "max_length")}


def _table_row(name: str, found: Row) -> Row:
    return {"name": name} | {key: found.get(key) for key in ("title", "recipes", "models", "seeds")}


ROW_OF = {
    "recipes": _recipe_row,
    "models": _model_row,
    "data": _data_row,
    "suites": _suite_row,
    "budgets": _budget_row,
    "tables": _table_row,
}


def _record_row(path: Path) -> Row:
    from polm_bench.run import glance

    try:
        text = path.read_bytes()
        try:
            record = {"id": glance.part(text, "id"), "status": glance.part(text, "status"), "cell": glance.cell(text)}
            record["scores"] = glance.headlines(text)
        except ValueError:  # laid out in another way
            record = json.loads(text)
        cell = {key: record["cell"][key] for key in ("recipe", "model", "data", "budget", "suite", "seed")}
        scores = {
            f"{score['task']}/{score['metric']}": score["value"]
            for score in record["scores"]
            if score["row"] == "self" and score.get("headline")
        }
        return {"id": record["id"], "status": record["status"]} | cell | {"scores": scores}
    except (OSError, ValueError, KeyError, TypeError):
        return {"id": path.stem, "status": "unreadable"}


def _about(group: str, name: str) -> str:
    """First sentence of the file's opening comment; a line that is a command to type is no sentence."""
    words: list[str] = []
    for line in (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        match = COMMENT.match(line)
        if match is None:
            break
        if not match[1].strip().startswith("polm-bench "):
            words.append(match[1].strip())
    return re.split(r"(?<=[.;])\s", " ".join(words), maxsplit=1)[0].rstrip(".:;")


def _class(found: Row) -> str:
    return str(found.get("_target_", "")).rpartition(".")[2]
