"""The YAML files of conf/, read without Hydra: the names of a group's values, the settings there are, and where a value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from polm_bench.errors import BadData, UnknownName
from polm_bench.paths import conf_dir

GROUPS = ("model", "data", "suite", "budget", "launch", "track", "recipe")
USUAL = dict.fromkeys(GROUPS, "nano") | {"launch": "inline", "track": "mlflow", "recipe": "dpo"}
"""What is taken for a group that no word chooses."""
COMMAND_LINE = "command line"
SWEEP = ("-m", "--multirun")
"""Hydra's words for a cell of each combination of values."""


def options(group: str) -> list[str]:
    """Names of a group's values; those that start with _ are shared bases."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


def file_of(group: str, name: str) -> Path:
    """The YAML of a group's value. Raises UnknownName when there is no such value."""
    path = conf_dir() / group / f"{name}.yaml"
    if not path.is_file():
        raise UnknownName(group, name, options(group))
    return path


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; not to be changed by who reads it. Raises BadData when it can't be read."""
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise BadData(f"{path} can't be read: {error.strerror}.") from error


@lru_cache(maxsize=1024)
def _parsed(path: Path, _changed: int) -> Any:
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadData(f"{path} is no YAML: {' '.join(str(error).split())}") from error


def chain(path: Path) -> list[Path]:
    """The files that a value is made of, the shared bases first; none where there is no such file."""
    if not path.is_file():
        return []
    parents = (read_yaml(path) or {}).get("defaults", [])
    names = [name for name in parents if isinstance(name, str) and name != "_self_"]
    return [*(file for name in names for file in chain(path.with_name(f"{name}.yaml"))), path]


def composed(path: Path) -> dict[str, Any]:
    """A value's settings over those of its bases, merged at every depth as Hydra does."""
    merged: dict[str, Any] = {}
    for file in chain(path):
        merged = _over(merged, read_yaml(file) or {})
    merged.pop("defaults", None)
    return merged


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        mine = found.get(name)
        found[name] = _over(mine if isinstance(mine, Mapping) else {}, value) if isinstance(value, Mapping) else value
    return found


def known(words: Sequence[str]) -> list[str]:
    """Dotted names of all settings, with the groups that the words choose."""
    chosen = dict(USUAL)
    for word in words:
        group, _, name = word.lstrip("+").partition("=")
        if group in chosen and (conf_dir() / group / f"{name}.yaml").exists():
            chosen[group] = name
    found = ["seed", *GROUPS]
    for group, name in chosen.items():
        for file in chain(conf_dir() / group / f"{name}.yaml"):
            found += [f"{group}.{key}" for key in _dotted(read_yaml(file))]
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
        files = chain(conf_dir() / str(group) / f"{names[group]}.yaml") if group in names else []
        sources = [(f"conf/{group}/{file.name}", set(_dotted(read_yaml(file)))) for file in reversed(files)]
        for name in _leaves(value):
            full = f"{group}.{name}" if name else str(group)
            if any(full == word or full.startswith(f"{word}.") for word in given - set(names)):
                yield full, COMMAND_LINE
            else:
                yield full, next((file for file, keys in sources if name in keys), "conf/run.yaml")


def _leaves(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if key != "_target_":
                yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix
