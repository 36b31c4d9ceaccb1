"""A table from records alone: read its description, build it, publish it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from polm_bench.report.choose import Cells
from polm_bench.report.data_page import data_page
from polm_bench.report.effect_page import effect_page
from polm_bench.report.facts import recipe_facts
from polm_bench.report.frontier import frontier
from polm_bench.report.page import Page
from polm_bench.report.publish import save
from polm_bench.report.records import Record, load
from polm_bench.report.render import page_of
from polm_bench.report.rows import Table, build
from polm_bench.report.spec import TableSpec, load_spec
from polm_bench.report.survey_page import survey_page

__all__ = ["Made", "Table", "TableSpec", "build", "load_spec", "make", "read", "records_folder", "save"]


class Made(NamedTuple):
    """A table's page and the records it stands on."""

    spec: TableSpec
    page: Page

    @property
    def records(self) -> Sequence[Record]:
        return self.page.records


def make(spec: TableSpec, records: Sequence[Record], conf_dir: Path) -> Made:
    """The page that the table's description asks for. Raises BadData for a recipe's YAML that can't be read."""
    if spec.of_data:
        return Made(spec, data_page(spec, conf_dir))
    if spec.view == "frontier":
        page, stood = frontier(spec, records, recipe_facts(conf_dir))
        return Made(spec, replace(page, records=stood))
    if spec.view == "effects" or spec.printed:
        cells, facts = Cells(records, spec.trials), recipe_facts(conf_dir)
        found = [cells.of(place, name, spec.seeds_of(name)) for place in spec.places() for name in spec.recipes]
        used = sorted((record for own in found for record in own.values() if record), key=lambda record: record.id)
        page = (survey_page if spec.printed else effect_page)(spec, cells, facts)
        return Made(spec, replace(page, records=used))
    return Made(spec, page_of(build(spec, records, recipe_facts(conf_dir))))


def read(spec: TableSpec, folder: Path, conf_dir: Path) -> Made:
    """`make` of the records in a folder that the table asks for. Raises StoreError for a file that is no record."""
    facts = recipe_facts(conf_dir).values() if spec.view == "effects" else ()
    return make(spec, load(folder, spec.record_names(facts)), conf_dir)


def records_folder(spec: TableSpec, results: Path, home: Path, given: Path | None = None) -> Path:
    """Where a table's records are read: where the user says, else beside the published table, else the store's."""
    if given is not None:
        return given
    published = Path(results) / (spec.records_of or spec.name) / "records"
    return published if published.is_dir() else Path(home) / "records"
