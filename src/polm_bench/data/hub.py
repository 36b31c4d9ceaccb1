"""Hub data sets: a repository at a commit, or a local folder with the same layout."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import InitVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.formats import RoleMap, derive, mapping_of, read_row
from polm_bench.data.roles import Row, WrongValueError, check_row
from polm_bench.data.source import DataSource, Rows, Split
from polm_bench.data.split import share_out
from polm_bench.errors import BadData
from polm_bench.graph import FORBID
from polm_bench.paths import is_inside
from polm_bench.remote import hub_commit, hub_snapshot, remembered_sha256

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

DATA = ("*.parquet", "*.jsonl", "*.jsonl.gz", "*.jsonl.zst", "*.json", "*.json.gz", "*.csv", "*.csv.gz")
BUILDERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


@dataclass(frozen=True, config=FORBID)
class HubRows(Rows):
    """Rows of one role of a data set at a commit, or of a local folder known by its content."""

    repo: str | None
    commit: str | None
    sha256: str | None  # of a local folder's data
    config: str | None
    files: dict[str, tuple[str, ...]]
    mapping: RoleMap
    source: RoleMap | None  # mapping of the role it is derived from
    validation_share: float
    limit: int | None
    max_bad: float
    folder: InitVar[str | None] = None
    local: ClassVar[str | None]

    def __post_init__(self, folder: str | None) -> None:
        object.__setattr__(self, "local", folder)

    def load(self, split: Split) -> list[Row]:
        """Checked rows. Rows that don't have the layout are left out up to the share `max_bad`, as published data has some; then BadData."""
        role, mapping = (
            (self.mapping.derive, self.source) if self.mapping.derive and self.source else (self.role, self.mapping)
        )
        name = mapping.validation if split == "validation" and mapping.validation else mapping.train
        where = f"{self.repo or self.local}[{name}]"
        rows = self._checked(role, mapping, self._dataset(name), where)
        if mapping.validation is None:
            rows = share_out(rows, self.validation_share, split, where)
        return rows if role == self.role else derive(role, self.role, rows)

    def place(self) -> Path:
        """Folder with the data files, downloaded if need be. Raises Unreachable."""
        if self.repo is None or self.commit is None:
            folder = Path(str(self.local))
        else:
            wanted = [pattern for patterns in self.files.values() for pattern in patterns]
            folder = hub_snapshot(self.repo, self.commit, "dataset", ("README.md", "*.py", *(wanted or DATA)))
        refuse_scripts(folder, self.repo or str(folder))
        return folder

    def _checked(self, role: str, mapping: RoleMap, raw: Iterable[Mapping[str, Any]], where: str) -> list[Row]:
        rows: list[Row] = []
        bad: list[str] = []
        for number, given in enumerate(raw, 1):
            try:
                rows.append(check_row(role, read_row(role, mapping, given), f"{where}, row {number}", given))
            except WrongValueError as wrong:
                bad.append(f"{where}, row {number}: {wrong}")
            except BadData as wrong:
                bad.append(str(wrong))
        if bad and len(bad) > self.max_bad * (len(rows) + len(bad)):
            raise BadData(
                f"{bad[0]} (and {len(bad) - 1} more of {len(rows) + len(bad)} rows are bad; data.max_bad allows a share of {self.max_bad})"
            )
        if not rows:
            raise BadData(f"{where}: no rows for the role '{role}'.")
        if bad:
            log.warning("%s: %d of %d rows left out; the first: %s", where, len(bad), len(rows) + len(bad), bad[0])
        return rows

    def _dataset(self, split: str) -> Dataset:
        """One split as the hub defines it, or `limit` of its rows, evenly spaced."""
        import yaml
        from datasets import load_dataset, load_dataset_builder
        from datasets.exceptions import DatasetGenerationError

        folder = self.place()
        try:
            if self.files:
                builder, files = self._matching(folder, split)
                data = load_dataset(builder, data_files={split: files}, split=split)
            else:
                chosen = load_dataset_builder(str(folder), name=self.config).config.data_files or {}
                must_be_inside(folder, chosen.get(split, ()), "its README.md")
                data = load_dataset(str(folder), name=self.config, split=split)
        except (ValueError, FileNotFoundError, DatasetGenerationError, yaml.YAMLError) as error:
            reason = error.__cause__ or error
            raise BadData(
                f"{self.repo or folder}: split '{split}' of configuration '{self.config or 'default'}' can't be read: {reason}"
            ) from error
        if self.limit is not None and len(data) > self.limit:
            data = data.select([index * len(data) // self.limit for index in range(self.limit)])
        return data

    def _matching(self, folder: Path, split: str) -> tuple[str, list[str]]:
        if split not in self.files:
            raise BadData(
                f"{self.repo or folder}: no split '{split}' in data.files, which has: {', '.join(self.files)}."
            )
        outside = [
            pattern for pattern in self.files[split] if Path(pattern).is_absolute() or ".." in Path(pattern).parts
        ]
        if outside:
            raise BadData(f"data.files.{split}: {outside[0]} leads out of {self.repo or folder}. Name files inside it.")
        found = sorted(path for pattern in self.files[split] for path in folder.glob(pattern))
        if not found:
            raise BadData(
                f"{self.repo or folder}: no file matches {', '.join(self.files[split])} (split '{split}'); set data.files.{split}=[...]."
            )
        must_be_inside(folder, map(str, found), f"data.files.{split}")
        suffix = next((suffix for suffix in found[0].suffixes if suffix in BUILDERS), "")
        if not suffix:
            raise BadData(f"{found[0]}: files that can be read end in {', '.join(BUILDERS)} (or these with .gz).")
        return BUILDERS[suffix], [str(path) for path in found]


@dataclass(frozen=True, config=FORBID)
class HubData(DataSource):
    """Roles from a data set of the hub: `path` is its id, or a local folder with the same layout.

    `files` names the files of each split; without it the data set's own README.md or file names say.
    """

    path: str
    roles_from: dict[str, RoleMap]
    revision: str | None = None  # None is main, resolved to a commit and recorded
    config: str | None = None
    files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.02  # where there is no validation split
    limit: Annotated[int, Field(gt=0)] | None = None  # rows of a split, evenly spaced; None is all
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.02
    license: str = "unknown"

    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(self.roles_from))

    def role(self, name: str) -> HubRows:
        """Rows of one role; resolves main to a commit, and looks at a local folder's files."""
        mapping = mapping_of(name, self.roles_from, self.name)
        folder = self._folder()
        if folder is not None:
            refuse_scripts(folder, self.path)
            must_be_inside(folder, map(str, data_in(folder)), "a link")
        return HubRows(
            role=name,
            repo=None if folder else self.path,
            commit=None if folder else hub_commit(self.path, self.revision, "dataset"),
            sha256=folder_hash(folder) if folder else None,
            config=self.config,
            files=self.files,
            mapping=mapping,
            source=mapping_of(mapping.derive, self.roles_from, self.name) if mapping.derive else None,
            validation_share=self.validation_share,
            limit=self.limit,
            max_bad=self.max_bad,
            folder=str(folder) if folder else None,
        )

    def prepare(self) -> None:
        """Download the files; all roles share them."""
        if self.roles_from:
            self.role(self.roles()[0]).place()

    def describe(self) -> dict[str, Any]:
        folder = self._folder()
        return {
            "name": self.name,
            "source": "folder" if folder else "hub",
            "path": self.path,
            "license": self.license,
            "revision": None if folder else hub_commit(self.path, self.revision, "dataset"),
            "sha256": folder_hash(folder) if folder else None,
            "config": self.config,
        }

    def _folder(self) -> Path | None:
        """The local folder, or None for a hub id."""
        place = Path(self.path).expanduser()
        if place.is_dir():
            return place.resolve()
        if place.exists():
            raise BadData(
                f"data.path={self.path}: this is a file; data={self.name} reads a hub data set or a folder like one. For a file: data=path data.path={self.path}"
            )
        if self.path.startswith((".", "/", "~")) or self.path.count("/") > 1:
            raise BadData(
                f"data.path={self.path}: there is no such folder. Give a folder with the data set's files, or a hub id."
            )
        return None


def data_in(folder: Path) -> list[Path]:
    """Data files anywhere under `folder`, and the README.md that says which split they are."""
    return sorted({path for pattern in ("README.md", *DATA) for path in folder.rglob(pattern) if path.is_file()})


def folder_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the data under `folder`."""
    files = data_in(folder)
    if not [file for file in files if file.name != "README.md"]:
        raise BadData(f"{folder}: no data files ({', '.join(DATA)}).")
    listing = "\n".join(f"{file.relative_to(folder).as_posix()} {remembered_sha256(file)}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def refuse_scripts(folder: Path, asked: str) -> None:
    """Raise BadData when a Python file lies beside the data: a data set script could run any code, so none is ever run."""
    scripts = sorted(path.name for path in folder.glob("*.py"))
    if scripts:
        raise BadData(
            f"data.path={asked}: there is Python code beside the data ({', '.join(scripts[:3])}), and data set scripts are never run here. "
            "Use a revision that has plain Parquet or JSON files (such as refs/convert/parquet), or a folder with the data files alone."
        )


def must_be_inside(folder: Path, files: Iterable[str], said: str) -> None:
    """Raise BadData for a file that the data itself takes from elsewhere on this machine, or from another server."""
    outside = [file for file in files if not is_inside(Path(file), folder)]
    if outside:
        raise BadData(
            f"{folder}: {said} leads out of it, to {Path(outside[0]).resolve()}. Copy the file into the folder."
        )
