"""Local data files: JSONL, JSON, CSV, TSV and Parquet, one file or a flat folder of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import InitVar
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.data.formats import RoleMap, derive, mapping_of, read_row
from polm_bench.data.roles import ROLES, Row, WrongValueError, check_row
from polm_bench.data.source import DataSource, Rows, Split
from polm_bench.data.split import share_out
from polm_bench.errors import BadData
from polm_bench.graph import FORBID
from polm_bench.paths import is_inside
from polm_bench.remote import remembered_sha256

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
HELD_OUT = ("validation", "valid", "val", "dev", "eval", "test")  # how the names of validation files in a folder start
CHECKED_AT_ONCE = 64 * 2**20  # bytes; files up to this size are checked row by row while planning


@dataclass(frozen=True, config=FORBID)
class FileRows(Rows):
    """Rows of one role in local files. Their identity is what the files hold, not where they lie."""

    train: tuple[str, ...]  # SHA-256 of each file
    validation: tuple[str, ...]  # empty: a share of the training rows
    validation_share: float
    mapping: RoleMap
    source: RoleMap | None = None  # mapping of the role it is derived from
    train_paths: InitVar[tuple[str, ...]] = ()
    validation_paths: InitVar[tuple[str, ...]] = ()
    paths: ClassVar[dict[str, tuple[str, ...]]]

    def __post_init__(self, train_paths: tuple[str, ...], validation_paths: tuple[str, ...]) -> None:
        object.__setattr__(self, "paths", {"train": train_paths, "validation": validation_paths})

    def load(self, split: Split) -> list[Row]:
        """Checked rows; the validation split is the validation files, or a share of the training files chosen by hash."""
        role, mapping = (
            (self.mapping.derive, self.source) if self.mapping.derive and self.source else (self.role, self.mapping)
        )
        paths = self.paths[split] if self.validation else self.paths["train"]
        rows = _checked(role, mapping, paths)
        if not self.validation:
            rows = share_out(rows, self.validation_share, split, ", ".join(paths))
        return rows if role == self.role else derive(role, self.role, rows)


def _checked(role: str, mapping: RoleMap, paths: tuple[str, ...]) -> list[Row]:
    rows = []
    for path in paths:
        state = Path(path).stat()
        for place, raw in raw_rows(path, state.st_size, state.st_mtime_ns):
            try:
                row = read_row(role, mapping, raw)
            except WrongValueError as wrong:
                raise BadData(f"{path}, {place}: {wrong}.") from None
            rows.append(check_row(role, row, f"{path}, {place}", raw))
    return rows


@dataclass(frozen=True, config=FORBID)
class FileData(DataSource):
    """Roles from local files: `path` is a file, or a folder whose files named validation*, dev* or test* are the validation split."""

    path: str
    roles_from: dict[str, RoleMap]
    validation: str | None = None  # a file of its own
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    license: str = "unknown"

    def roles(self) -> tuple[str, ...]:
        return tuple(sorted(self.roles_from))

    def role(self, name: str) -> FileRows:
        """Rows of one role; files up to 64 MB are read and checked at once."""
        rows = self._rows(name)
        if self._bytes() <= CHECKED_AT_ONCE:
            rows.load("train")
            rows.load("validation")
        return rows

    def prepare(self) -> None:
        """Check the rows that were too many to be checked while planning."""
        if self._bytes() > CHECKED_AT_ONCE:
            for name in self.roles():
                self._rows(name).load("train")

    def _rows(self, name: str) -> FileRows:
        mapping = mapping_of(name, self.roles_from, self.name)
        train, validation = self._files()
        return FileRows(
            role=name,
            train=tuple(remembered_sha256(path) for path in train),
            validation=tuple(remembered_sha256(path) for path in validation),
            validation_share=self.validation_share,
            mapping=mapping,
            source=mapping_of(mapping.derive, self.roles_from, self.name) if mapping.derive else None,
            train_paths=tuple(map(str, train)),
            validation_paths=tuple(map(str, validation)),
        )

    def _bytes(self) -> int:
        return sum(path.stat().st_size for files in self._files() for path in files)

    def describe(self) -> dict[str, Any]:
        train, validation = self._files()
        return {
            "name": self.name,
            "source": "files",
            "path": self.path,
            "license": self.license,
            "files": {path.name: remembered_sha256(path) for path in (*train, *validation)},
        }

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Training and validation files, by name."""
        found = data_files(self.path, "data.path")
        if self.validation is not None:
            return found, data_files(self.validation, "data.validation")
        held_out = [path for path in found if len(found) > 1 and path.name.startswith(HELD_OUT)]
        return [path for path in found if path not in held_out], held_out


def data_files(path: str, asked: str) -> list[Path]:
    """The data files at `path`. Raises BadData when there are none, or one is empty."""
    place = Path(path).expanduser()
    kinds = ", ".join(SUFFIXES)
    if not place.exists():
        raise BadData(
            f"{asked}={path}: there is no such file or folder. Give a file ({kinds}), a folder of them, or a hub id."
        )
    files = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES) if place.is_dir() else [place]
    if not files or files[0].suffix not in SUFFIXES:
        raise BadData(f"{asked}={path}: no data file. Files that can be read end in {kinds}.")
    for file in files:
        if not file.is_file():
            raise BadData(f"{file}: no file, or a link to one that isn't there. Take it out of the folder.")
        if place.is_dir() and not is_inside(file, place):
            raise BadData(f"{file}: this link leads out of {place}. Copy the file it leads to, or give its path.")
        if file.stat().st_size == 0:
            raise BadData(f"{file}: the file is empty; there must be at least one row.")
    return [file.resolve() for file in files]


@lru_cache(maxsize=8)
def raw_rows(path: str, size: int, changed: int) -> tuple[tuple[str, dict[str, Any]], ...]:
    """All rows of a file with their place ("line 3"); `size` and `changed` tell apart the versions of a file.

    Raises BadData when the file is not what its name says.
    """
    file = Path(path)
    readers = {".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    try:
        rows = tuple(readers.get(file.suffix, _jsonl)(file))
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadData(f"{path}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from error
    if not rows:
        raise BadData(f"{path}: no rows; there must be at least one.")
    return rows


def _jsonl(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    # Split at "\n" alone: JSON text may hold other line separators, such as U+2028.
    for number, line in enumerate(_utf8(file).split("\n"), 1):
        if line.strip():
            yield f"line {number}", _object(_parse(line, f"{file}, line {number}"), f"{file}, line {number}")


def _json(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = _utf8(file)
    if text.lstrip().startswith("{"):  # JSON lines under the name .json, as many hub data sets have
        yield from _jsonl(file)
        return
    rows = _parse(text, str(file))
    if not isinstance(rows, list):
        raise BadData(f"{file}: must hold a list of rows, or one row a line.")
    for number, row in enumerate(rows, 1):
        yield f"row {number}", _object(row, f"{file}, row {number}")


def _csv(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cells are text; one that holds a JSON list, object, number or truth value in a column of that kind is read as such."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader(
        io.StringIO(_utf8(file), newline=""), delimiter="\t" if file.suffix == ".tsv" else ",", strict=True
    )
    try:
        for row in reader:
            place = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise BadData(
                    f"{file}, {place}: {'more' if None in row else 'fewer'} cells than the header has columns ({len(reader.fieldnames or ())})."
                )
            yield place, {name: _cell(name, value) for name, value in row.items()}
    except csv.Error as error:
        raise BadData(f"{file}, line {reader.line_num}: not CSV ({error}).") from error


def _cell(name: str, value: str) -> Any:
    if value[:1] in ("[", "{") or value.lower() in ("true", "false"):
        try:
            return json.loads(value if value[:1] in ("[", "{") else value.lower())
        except ValueError:
            return value
    numeric = {field.name for fields in ROLES.values() for field in fields if field.kind == "number"}
    if name in numeric or name.startswith("score"):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _parquet(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise BadData(f"{file}: not a Parquet file ({error}).") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"row {number}", row


def _utf8(file: Path) -> str:
    return file.read_bytes().decode("utf-8-sig")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"{where}: not JSON ({error}).") from error


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadData(f"{where}: a row must be a JSON object with the columns as names.")
    return value
