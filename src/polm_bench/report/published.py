"""Published figures as data (`conf/published/`): what a source printed, how close is close, and the cell that would make it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadData, PolmError, UnknownName
from polm_bench.graph import FORBID
from polm_bench.report.choose import age, changed_settings, setting_of
from polm_bench.report.records import Record
from polm_bench.report.spec import Place, TableSpec
from polm_bench.settings import read_yaml

PUBLISHED = "published"
"""What `--against` says for the figures of `conf/published/`; anything else is a file of the same form."""


@dataclass(frozen=True, config=FORBID)
class Quantity:
    """A column of a published table."""

    metric: str | None = None  # task/metric, or a cost of the record; None: no suite here measures it, as `why` says
    scale: float = 1.0  # factor from the printed figure to the record's unit
    margin: float = Field(default=0.0, ge=0)  # how far apart still counts as the same, in the record's unit
    relative: bool = False  # the margin is a share of the published figure
    items: int | None = Field(default=None, gt=0)  # a share of so many items, whose sampling error follows from that
    runs: int | None = Field(default=None, gt=0)  # over how many runs a printed spread is the standard deviation
    why: str | None = None


@dataclass(frozen=True, config=FORBID)
class Line:
    """A row of a published table: one method."""

    method: str
    figures: Mapping[str, float | tuple[float, float]]  # of each quantity; two numbers are a mean and its spread
    cell: tuple[str, ...] | None = None  # overrides that make it, beside the publication's; None: no cell does
    why: str | None = None  # why none does, or what differs from the source in the one that does


@dataclass(frozen=True, config=FORBID)
class Publication:
    """One published table with where and how its figures were got."""

    name: str
    title: str
    source: str
    setting: str
    quantities: Mapping[str, Quantity]
    rows: tuple[Line, ...]
    cell: tuple[str, ...] = ()  # overrides that all its cells share
    seeds: tuple[int, ...] = (0,)  # that `--run` runs


class Reference(NamedTuple):
    """One published figure in our units."""

    publication: Publication
    line: Line
    quantity: Quantity
    name: str  # of the quantity, as the publication calls it
    value: float
    error: float | None  # standard error of the published figure, where the source lets one know it
    margin: float
    cell: tuple[str, ...] | None  # overrides of `polm-bench run`, without the seed

    @property
    def why(self) -> str:
        """Why no record can stand beside it, or what the cell does differently."""
        return "; ".join(filter(None, [self.quantity.why, self.line.why]))


def publications(conf_dir: Path) -> dict[str, Publication]:
    """All of `conf/published/` by name. Raises BadData for a file that doesn't describe one."""
    return {path.stem: read_publication(path) for path in sorted((Path(conf_dir) / PUBLISHED).glob("*.yaml"))}


def read_publication(path: Path) -> Publication:
    """One file of published figures. Raises BadData naming the file, the row and what is wrong."""
    content: Any = read_yaml(path)
    if not isinstance(content, dict):
        raise BadData(f"{path} holds no mapping: it needs name, title, source, setting, quantities, rows.")
    try:
        found = Publication(**content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise BadData(f"{path} does not describe published figures: {faults}") from error
    for line in found.rows:
        if fault := _fault(found, line):
            raise BadData(f"{path}, {line.method}: {fault}.")
    for name, quantity in found.quantities.items():
        if quantity.metric is None and not quantity.why:
            raise BadData(f"{path}, {name}: it has no metric, so `why` must say what keeps us from measuring it.")
    return found


def _fault(found: Publication, line: Line) -> str | None:
    if unknown := sorted(set(line.figures) - set(found.quantities)):
        return f"figures of {', '.join(unknown)}, which `quantities` does not list"
    if line.cell is None:
        return None if line.why else "it has no cell, so `why` must say what is missing here"
    groups = {word.lstrip("+").partition("=")[0] for word in (*found.cell, *line.cell)}
    if missing := [group for group in ("recipe", *Place._fields) if group not in groups]:
        return f"its cell does not say {', '.join(missing)}"
    return None


def references(found: Publication) -> list[Reference]:
    """The publication's figures in our units, row by row."""
    told = []
    for line in found.rows:
        cell = None if line.cell is None else (*found.cell, *line.cell)
        for name, printed in line.figures.items():
            quantity = found.quantities[name]
            value, spread = printed if isinstance(printed, tuple) else (printed, None)
            value *= quantity.scale
            margin = quantity.margin * (abs(value) if quantity.relative else 1.0)
            error = _error(value, spread, quantity)
            told.append(Reference(found, line, quantity, name, value, error, margin, cell))
    return told


def _error(value: float, spread: float | None, quantity: Quantity) -> float | None:
    """Standard error of a published figure: of its spread over runs, else of a share of so many items; None where neither is told."""
    if spread is not None:
        return spread * quantity.scale / math.sqrt(quantity.runs or 1)
    if quantity.items is not None and 0 <= value <= 1:
        return math.sqrt(value * (1 - value) / quantity.items)
    return None


def chosen(against: str, name: str, spec: TableSpec | None, conf_dir: Path) -> list[Reference]:
    """Figures that `table NAME --against` asks for: those of a table's cells, or all of one publication.

    Raises UnknownName where NAME is neither, and PolmError where a table has none.
    """
    if against == PUBLISHED:
        known = publications(conf_dir)
        if spec is None:
            if name not in known:
                tables = [path.stem for path in (Path(conf_dir) / "table").glob("*.yaml")]
                raise UnknownName("table or publication", name, [*tables, *known])
            return references(known[name])
    else:
        path = Path(against)
        if not path.is_file():
            raise PolmError(
                f"--against {against}: give 'published' for the figures of conf/published/, or a YAML file of that form."
            )
        known = {path.stem: read_publication(path)}
    found = [one for publication in known.values() for one in references(publication)]
    if spec is None:
        return found
    if inside := [one for one in found if one.cell is not None and _is_cell_of(one.cell, spec)]:
        return inside
    raise PolmError(
        f"none of the figures in {against} is of a cell of the table '{name}'. There are: {', '.join(known)}; "
        f"`polm-bench table {next(iter(known))} --against published` prints one, `--against FILE` reads your own."
    )


def _is_cell_of(cell: Sequence[str], spec: TableSpec) -> bool:
    names, settings = split(cell)
    place = Place(*(names[group] for group in Place._fields))
    other_model = any(name in settings for name in ("model.path", "data.path"))
    return not other_model and place in spec.places() and names["recipe"] in {*spec.recipes, "base"}


def split(cell: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The names that overrides choose in each group, and the single settings they change; seeds are left out."""
    names: dict[str, str] = {}
    settings: dict[str, Any] = {}
    for word in cell:
        name, _, value = word.lstrip("+").partition("=")
        if "." in name:
            settings[name] = yaml.safe_load(value)
        elif name != "seed":
            names[name] = value
    return names, settings


def of_cell(records: Sequence[Record], cell: Sequence[str]) -> list[Record]:
    """Records of a cell, the newest of each seed."""
    names, settings = split(cell)
    found: dict[int, Record] = {}
    for record in sorted(records, key=age):
        if _is_of(record, names, settings):
            found[record.cell["seed"]] = record
    return [found[seed] for seed in sorted(found)]


def _is_of(record: Record, names: Mapping[str, str], settings: Mapping[str, Any]) -> bool:
    cell = record.cell
    for group, name in names.items():
        if f"{group}.path" not in settings and cell.get(group) != name:  # a path gives the group another name
            return False
    if any(setting_of(record, name) != value for name, value in settings.items()):
        return False
    changed = changed_settings(record)
    return all(any(name == word or name.startswith(f"{word}.") for word in settings) for name in changed)
