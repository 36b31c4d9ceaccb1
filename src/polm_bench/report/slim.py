"""Items of published records: what all evaluations of a suite have in common is kept once.

An evaluation's file then holds its scores and outputs; task, item, cluster, prompt, metric and weight of each line stand in a file of their
own (`asked-*.parquet`, named by content) that it names in its metadata. In the embedded world that is a quarter of the size.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.errors import StoreError
from polm_bench.files import replacing

if TYPE_CHECKING:
    import pyarrow

ASKED = ("task", "item", "cluster", "prompt_hash", "metric", "weight")
_NAME = b"asked"


def read_table(path: Path) -> pyarrow.Table:
    """A file of items, whole, whichever way it was written.

    Raises StoreError when it, or the file it names, is missing or unreadable.
    """
    table = _read(path)
    if (name := asked_of(table)) is None:
        return table
    asked = _read(path.parent / name)
    if len(asked) != len(table):
        raise StoreError(
            f"the items {path} and {name} beside it have {len(table)} and {len(asked)} lines. Run the cell again."
        )
    for place, column in enumerate(asked.column_names):
        table = table.add_column(place, asked.schema.field(column), asked[column])
    return table


def read_own(path: Path, columns: Sequence[str]) -> pyarrow.Table:
    """Those of the columns that the file itself has. Raises StoreError when it is missing or unreadable."""
    return _read(path, columns)


def asked_of(table: pyarrow.Table) -> str | None:
    """Name of the file that holds what was asked, for a table that lacks it."""
    name = (table.schema.metadata or {}).get(_NAME)
    return name.decode() if name else None


def asked_by(path: Path) -> str | None:
    """Name of the file beside it that a file of items stands on too. Raises StoreError when it is missing or unreadable."""
    return asked_of(_read(path, []))


def copy_slim(source: Path, folder: Path) -> list[Path]:
    """Copy a file of items to a folder, without what others there have too; returns the files it now stands on."""
    import pyarrow.parquet as pq

    target = folder / source.name
    table = _read(source)
    if name := asked_of(table):
        return [_copied(source, target), _copied(source.parent / name, folder / name)]
    asked = table.select([name for name in ASKED if name in table.column_names])
    digest = hashlib.sha256()
    for column in asked.columns:
        digest.update("\0".join(map(str, column.to_pylist())).encode() + b"\1")
    shared = folder / f"asked-{digest.hexdigest()[:12]}.parquet"
    own = table.select([name for name in table.column_names if name not in ASKED])
    own = own.replace_schema_metadata({_NAME: shared.name.encode()})
    for path, content in ((shared, asked), (target, own)):
        if path == target or not path.exists():
            with replacing(path) as beside:
                pq.write_table(content, beside, compression="zstd", compression_level=19)
    return [target, shared]


def _copied(source: Path, target: Path) -> Path:
    if not (target.exists() and target.samefile(source)):
        with replacing(target) as beside:
            shutil.copyfile(source, beside)
    return target


def _read(path: Path, columns: Sequence[str] | None = None) -> pyarrow.Table:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        return file.read(columns=wanted)
    except (OSError, pyarrow.lib.ArrowException) as error:
        told = " ".join(str(error).split())[:200]
        raise StoreError(
            f"the items {path} can't be read ({told}). Run the cell again, or copy the file from where the record was made."
        ) from error
