"""`data=path`: whatever `data.path=` names, with a column mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polm_bench.data.files import FileData
from polm_bench.data.formats import RoleMap, derivable
from polm_bench.data.hub import HubData
from polm_bench.data.roles import ROLES
from polm_bench.data.source import DataSource
from polm_bench.errors import BadData, UnknownName


def path_data(
    name: str,
    path: str | None,
    role: str,
    layout: str,
    columns: dict[str, str | None],
    roles: dict[str, dict[str, Any]],
    train: str,
    validation: str | None,
    validation_share: float,
    revision: str | None,
    config: str | None,
    files: dict[str, list[str]],
    limit: int | None,
    max_bad: float,
    license: str,  # noqa: A002 - the name of the setting
) -> DataSource:
    """Files, a folder like a hub data set, or a hub id; the roles that follow from the given one are there too.

    `role`, `layout` and `columns` describe one role; `roles` describes several, name by name.
    """
    if path is None:
        raise BadData("data=path needs data.path=: a JSONL, JSON, CSV or Parquet file, a folder, or a hub id.")
    local = is_files(path)
    one = {"layout": layout, "columns": columns, "train": train, "validation": None if local else validation}
    given = {known_role(each): role_map(settings) for each, settings in (roles or {role: one}).items()}
    mapped = given | {more: RoleMap(derive=source) for more, source in derivable(given).items()}
    if local:
        return FileData(
            name=name,
            path=path,
            roles_from=mapped,
            validation=validation,
            validation_share=validation_share,
            license=license,
        )
    return HubData(
        name=name,
        path=path,
        roles_from=mapped,
        revision=revision,
        config=config,
        files={split: tuple(patterns) for split, patterns in files.items()},
        validation_share=validation_share,
        limit=limit,
        max_bad=max_bad,
        license=license,
    )


def is_files(path: str) -> bool:
    """Whether `path` is a file or a flat folder of files; a folder with README.md or data/ is laid out like a hub data set."""
    place = Path(path).expanduser()
    if place.is_dir():
        return not (place / "README.md").exists() and not any(child.is_dir() for child in place.iterdir())
    return place.exists() or path.startswith((".", "/", "~")) or path.count("/") > 1


def known_role(role: str) -> str:
    if role not in ROLES:
        raise UnknownName("data role", role, ROLES)
    return role


def role_map(settings: dict[str, Any]) -> RoleMap:
    """A mapping without the columns that keep their name."""
    columns = {ours: theirs for ours, theirs in (settings.get("columns") or {}).items() if theirs is not None}
    return RoleMap(**{**settings, "columns": columns})
