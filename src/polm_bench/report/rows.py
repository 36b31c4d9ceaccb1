"""From records to the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from polm_bench.report.choose import Cells, column_order, ended_as
from polm_bench.report.costs import COSTS
from polm_bench.report.facts import Facts
from polm_bench.report.items import Evaluation
from polm_bench.report.measure import bootstrap, figure, gap
from polm_bench.report.notes import notes_of
from polm_bench.report.overall import overall
from polm_bench.report.parts import Block, Column, Entry, Measure, Row, Table
from polm_bench.report.ranking import correct, mark_front, ranks
from polm_bench.report.records import Record
from polm_bench.report.spec import Place, TableSpec
from polm_bench.stats import Bootstrap


def build(spec: TableSpec, records: Sequence[Record], facts: Mapping[str, Facts] | None = None) -> Table:
    """The table of these records. Cells without a record are counted in their row and named in `missing`.

    `facts` name the methods that have no record yet.
    """
    draws, known = bootstrap(), Cells(records, spec.trials)
    blocks: list[Block] = []
    used: list[Record] = []
    missing: list[tuple[str, ...]] = []
    for place in spec.places():
        cells = {name: known.of(place, name, spec.seeds_of(name)) for name in spec.recipes}
        used += [record for own in cells.values() for record in own.values() if record]
        missing += [
            tuple(place.overrides(name, seed))
            for name in cells
            for seed, record in cells[name].items()
            if record is None
        ]
        blocks.append(_block(spec, place, _entries(spec, cells, facts or {}), draws))
    correct(blocks)
    used.sort(key=lambda record: record.id)
    return Table(spec, tuple(blocks), tuple(used), tuple(missing))


def _entries(
    spec: TableSpec, cells: Mapping[str, Mapping[int, Record | None]], facts: Mapping[str, Facts]
) -> list[Entry]:
    """An entry per recipe; the base and the SFT come from other recipes' records where theirs don't tell."""
    entries = []
    for recipe in spec.recipes:
        found = cells[recipe].values()
        known = tuple(record for record in found if record)
        ended = tuple(Evaluation(record, "self") for record in known if record.status == "ok")
        told = known[0].data["recipe"] if known else facts[recipe].meta if recipe in facts else {}
        entries.append(Entry(recipe, known, ended_as(found), ended, dict(told)))
    made = {entry.name for entry in entries if entry.evaluations}
    ended_well = [record for own in cells.values() for record in own.values() if record and record.status == "ok"]
    if "sft" not in made:
        entries = _borrowed("start", "sft (start)", "SFT that {} starts from", ended_well) + entries
    if "base" not in made and any("base" in record.data["rows"] for record in ended_well):
        rest = [entry for entry in entries if entry.name != "base" or entry.records]
        name = "base" if len(rest) < len(entries) or "base" not in spec.recipes else "base (others')"
        entries = _borrowed("base", name, "Base model", ended_well) + rest
    return entries


def _borrowed(row: str, name: str, title: str, records: Sequence[Record]) -> list[Entry]:
    """An entry made of the `row` that records of one recipe carry; its making is not told, so it has no cost."""
    lenders = [record for record in records if row in record.data["rows"]]
    if not lenders:
        return []
    recipe = lenders[0].cell["recipe"]
    evaluations = tuple(Evaluation(record, row) for record in lenders if record.cell["recipe"] == recipe)
    return [Entry(name, (), {}, evaluations, {"title": title.format(recipe)})]


def _block(spec: TableSpec, place: Place, entries: Sequence[Entry], draws: Bootstrap) -> Block:
    order = column_order([entry.evaluations for entry in entries], spec.scores)
    columns = tuple(Column(name, better) for name, better in order.items())
    everyone = [record for entry in entries for record in entry.records]
    ranked = {column.name: ranks(entries, column, draws) for column in columns}
    rows = []
    for entry in entries:
        measures, notes = _measures(entry, columns, draws)
        rows.append(
            Row(
                name=entry.name,
                title=str(entry.facts.get("title") or entry.name),
                paradigm=str(entry.facts.get("paradigm") or ""),
                statuses=entry.statuses,
                measures=measures,
                ranks={name: found[entry.name] for name, found in ranked.items() if entry.name in found},
                costs=_costs(entry),
                notes=(*notes_of(entry.records, everyone, spec.trials), *notes),
                records=tuple(record.id for record in entry.records),
                evaluations=entry.evaluations,
            )
        )
    mark_front(rows, columns, spec.against)
    block = Block(place, columns, tuple(rows))
    if not spec.overall:
        return block
    whole, proportions = overall(entries, block.parted()[0])
    return replace(block, overall=whole, proportions=tuple(proportions))


def _measures(entry: Entry, columns: Sequence[Column], draws: Bootstrap) -> tuple[dict[str, Measure], list[str]]:
    """Scores and their differences from the base, and what could not be paired."""
    measures, notes = {}, []
    against = [(one, Evaluation(one.record, "base")) for one in entry.evaluations]
    against = [(one, base) for one, base in against if one.key != base.key]
    for column in columns:
        known = figure(entry.evaluations, column.name, draws)
        if known is None:
            continue
        found = gap(against, column.name, draws)
        measures[column.name] = Measure(*known, difference=found.found if found else None)
        if found and found.left_out:
            notes.append(f"{column.name}: {found.left_out} items that the base or this row lacks are not compared")
        if found and found.other_prompts:
            notes.append(f"{column.name}: {found.other_prompts} items had another prompt than the base's")
    return measures, notes


def _costs(entry: Entry) -> dict[str, float | None]:
    ended = [one.record.data["cost"] for one in entry.evaluations] if entry.records else []
    found: dict[str, float | None] = {}
    for name in COSTS:
        values = [cost[name] for cost in ended if isinstance(cost.get(name), int | float)]
        found[name] = sum(values) / len(values) if values else None
    return found
