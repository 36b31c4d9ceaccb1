"""`ls` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polm_bench.cli.catalogue import KINDS, Row, names, numbers, rows, settings
from polm_bench.cli.printing import cell_text, markdown, print_json, print_rows
from polm_bench.cli.sources import check_source
from polm_bench.errors import PolmError, UnknownName
from polm_bench.paths import conf_dir, home

COLUMNS = {
    "recipes": ("name", "title", "paradigm", "family", "shape", "paper", "cost"),
    "models": ("name", "path", "license", "about"),
    "data": ("name", "source", "about"),
    "suites": ("name", "tasks", "about"),
    "budgets": ("name", "amount", "unit", "batch", "max_length", "about"),
    "tables": ("name", "title", "recipes", "models", "seeds"),
    "records": ("id", "status", "scores"),
}


def ls(kind: str | None, style: str, records: Path | None) -> int:
    """List one kind, or the names of all kinds."""
    check_source(False, records)
    kinds = (kind,) if kind else KINDS
    found = {name: rows(name, records or home() / "records") for name in kinds}
    if style == "json":
        print_json(found[kind] if kind else found | {"conf": str(conf_dir()), "home": str(home())})
    elif kind is None:
        _print_overview(found, style)
    elif style == "md":
        print(markdown(found[kind], COLUMNS[kind]), end="")
    else:
        print_rows(found[kind], COLUMNS[kind])
    return 0


def show(name: str, records: Path | None, as_json: bool) -> int:
    """Show a recipe, or else the record of that name."""
    if name in names("recipe"):
        return _show_recipe(name, as_json)
    from polm_bench.report.records import find, load

    folder = records or home() / "records"
    found = load(folder)
    try:
        record = find(found, name)
    except UnknownName as error:
        if any(one.id.startswith(name) for one in found):
            raise
        known = [*names("recipe"), *(one.id for one in found)]
        raise UnknownName("recipe or record", name, known, "`polm-bench ls` lists them.") from error
    if as_json:
        print_json(record.data)
    else:
        from polm_bench.cli.cells import print_record

        print_record(record)
    return 0


def _show_recipe(name: str, as_json: bool) -> int:
    found = settings("recipe", name)
    meta, figures, graph = found.get("meta", {}), numbers("recipe", name), _graph(name)
    if as_json:
        print_json({"name": name, "meta": meta, "shape": found.get("_target_"), "numbers": figures, "graph": graph})
        return 0
    print(f"{meta.get('title', name)} ({meta.get('paradigm')}, {meta.get('family')}; {meta.get('paper')})")
    axes = meta.get("axes") or {}
    for who, text in (("survey", "axes in the survey"), ("ours", "axes as we see them")):
        if axes.get(who):
            print(f"{text}: {', '.join(f'{axis} {cell_text(label)}' for axis, label in axes[who].items())}")
    claim = meta.get("claim")
    if claim:
        print(f"claim: {claim['kind']} in {claim['metric']} against {claim['against']} ({claim['source']})")
    print(f"cost: {meta.get('cost')}\nshape: {found.get('_target_')}\n")
    print_rows(figures, ("setting", "value", "source"), title="numbers")
    print()
    if isinstance(graph, str):
        print(f"graph: {graph}")
    else:
        print_rows(graph, ("stage", "key", "reads"), title="graph on nano")
    return 0


def _graph(name: str) -> list[Row] | str:
    """The stages on the embedded world, or why they can't be planned there."""
    from polm_bench.config import plan

    try:
        told: dict[str, Any] = plan([f"+recipe={name}"]).to_dict()
    except PolmError as error:
        return f"not planned on nano: {error}"
    kinds = {stage["key"]: stage["kind"] for stage in told["stages"]}
    return [
        {"stage": stage["kind"], "key": stage["key"], "reads": ", ".join(kinds[key] for key in stage["inputs"])}
        for stage in told["stages"]
    ]


def _print_overview(found: dict[str, list[Row]], style: str) -> None:
    overview = [
        {
            "kind": kind,
            "count": len(some),
            "names": ", ".join(str(row.get("name") or row.get("id")) for row in some[:40]),
        }
        for kind, some in found.items()
    ]
    columns = ("kind", "count", "names")
    if style == "md":
        print(markdown(overview, columns), end="")
        return
    print_rows(overview, columns)
    print(f"\nconfiguration: {conf_dir()}\nstate: {home()}\nMore of one kind: polm-bench ls recipes")
