"""`ls` and `show`."""

from __future__ import annotations

from argparse import Namespace
from shutil import get_terminal_size
from typing import Any

from polm_bench.cli.catalogue import KINDS, Row, numbers, rows
from polm_bench.cli.printing import cell_text, markdown, print_json, print_rows
from polm_bench.cli.sources import check_source
from polm_bench.errors import PolmError, UnknownName
from polm_bench.paths import conf_dir, home
from polm_bench.settings import composed, file_of, options

COLUMNS = {
    "recipes": ("name", "title", "paradigm", "family", "shape", "paper", "cost"),
    "models": ("name", "path", "license", "about"),
    "data": ("name", "source", "about"),
    "suites": ("name", "tasks", "about"),
    "budgets": ("name", "amount", "unit", "batch", "max_length", "about"),
    "tables": ("name", "title", "recipes", "models", "seeds"),
    "records": ("id", "status", "scores"),
}
"""What Markdown shows of each kind; JSON has all."""
BRIEF = {
    "recipes": ("name", "title", "paradigm"),
    "tables": ("name", "title"),
    "records": ("id", "status"),
}
"""What a list for people shows, where that is less: a line each in LIST_WIDTH characters."""
LIST_WIDTH = 80  # characters, where no terminal says how wide it is
NAMES = 20  # of a kind, in the list of all kinds


def ls(arguments: Namespace) -> int:
    """List one kind, or the names of all kinds."""
    check_source(False, arguments.records)
    kind, style = arguments.kind, arguments.format
    found = {name: rows(name, arguments.records or home() / "records") for name in ((kind,) if kind else KINDS)}
    if style == "json":
        print_json(found[kind] if kind else found | {"conf": str(conf_dir()), "home": str(home())})
        return 0
    told, columns = (found[kind], COLUMNS[kind]) if kind else (_overview(found), ("kind", "count", "names"))
    if style == "md":
        print(markdown(told, columns), end="")
        return 0
    print_rows(told, BRIEF.get(kind or "", columns), width=get_terminal_size((LIST_WIDTH, 24)).columns)
    if kind is None:
        print(f"\nconfiguration: {conf_dir()}\nstate: {home()}\nMore of one kind: polm-bench ls recipes")
    return 0


def show(arguments: Namespace) -> int:
    """Show a recipe, or else the record of that name."""
    name = arguments.name
    if name in options("recipe"):
        return _show_recipe(name, arguments.json)
    from polm_bench.report.records import find, load

    check_source(False, arguments.records)
    found = load(arguments.records or home() / "records")
    try:
        record = find(found, name)
    except UnknownName as error:
        if any(one.id.startswith(name) for one in found):
            raise
        known = [*options("recipe"), *(one.id for one in found)]
        raise UnknownName("recipe or record", name, known, "`polm-bench ls` lists them.") from error
    if arguments.json:
        print_json(record.data)
    else:
        from polm_bench.cli.cells import print_record

        print_record(record)
    return 0


def _show_recipe(name: str, as_json: bool) -> int:
    found = composed(file_of("recipe", name))
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


def _overview(found: dict[str, list[Row]]) -> list[Row]:
    """A line for each kind, with the first of its names."""
    names_of = {kind: [str(row.get("name") or row.get("id")) for row in some] for kind, some in found.items()}
    return [
        {"kind": kind, "count": len(own), "names": ", ".join(own[:NAMES]) + (", ..." if len(own) > NAMES else "")}
        for kind, own in names_of.items()
    ]
