"""The YAML files of conf/, read without Hydra: the names of a group's values, the settings there are, and where a value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from polm_bench.paths import conf_dir

GROUPS = ("model", "data", "suite", "budget", "launch", "track", "recipe")
COMMAND_LINE = "command line"


def options(group: str) -> list[str]:
    """Names of a group's values; those that start with _ are shared bases."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


def settings(words: Sequence[str]) -> list[str]:
    """Dotted names of all settings, with the groups that the words choose."""
    chosen = dict.fromkeys(GROUPS, "nano") | {"launch": "inline", "track": "mlflow", "recipe": "dpo"}
    for word in words:
        group, _, name = word.lstrip("+").partition("=")
        if group in chosen and (conf_dir() / group / f"{name}.yaml").exists():
            chosen[group] = name
    found = ["seed", *GROUPS]
    for group, name in chosen.items():
        folder = conf_dir() / group
        for part in _chain(folder, name):
            found += [f"{group}.{key}" for key in _dotted(yaml.safe_load((folder / f"{part}.yaml").read_text()) or {})]
    return found


def _dotted(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("_target_", "defaults"):
                yield from _dotted(item, f"{prefix}.{key}" if prefix else str(key))
    if prefix:
        yield prefix


def origins(config: Mapping[Any, Any], names: Mapping[str, str], overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    """For each leaf of the configuration, where its value comes from."""
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    for group, value in config.items():
        folder = conf_dir() / str(group)
        sources: list[tuple[str, set[str]]] = []
        if group in names:
            order = _chain(folder, names[group])
            sources = [
                (f"conf/{group}/{name}.yaml", set(_dotted(yaml.safe_load((folder / f"{name}.yaml").read_text()))))
                for name in order
            ]
        for name in _leaves(value):
            full = f"{group}.{name}" if name else str(group)
            if any(full == word or full.startswith(f"{word}.") for word in given - set(names)):
                yield full, COMMAND_LINE
            else:
                yield full, next((file for file, keys in sources if name in keys), "conf/run.yaml")


def _chain(folder: Path, name: str) -> list[str]:
    """Names of a YAML and the ones it is built on, nearest first."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        return []
    defaults = (yaml.safe_load(path.read_text()) or {}).get("defaults", [])
    return [
        name,
        *(up for parent in defaults if isinstance(parent, str) and parent != "_self_" for up in _chain(folder, parent)),
    ]


def _leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if key != "_target_":
                yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix
