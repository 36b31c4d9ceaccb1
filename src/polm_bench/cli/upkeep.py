"""`status`, `verify` and `gc`: look after a home that many runs share."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from typing import Any

from polm_bench.cli.printing import gigabytes, print_json, print_rows
from polm_bench.errors import PolmError
from polm_bench.paths import home
from polm_bench.run import upkeep
from polm_bench.run.progress import counted
from polm_bench.run.store import Store


def status(arguments: Namespace) -> int:
    """Print which cells are wanted, running, done and failed; reads only, so it works while others run."""
    told = upkeep.status(home())
    if arguments.json:
        print_json(told)
        return 0
    counts = Counter(cell["status"] for cell in told["cells"])
    print(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no cells yet")
    if told["running"]:
        rows = [
            {
                "stage": f"{stage['kind']} {stage['key']}",
                "for": stage["owner"],
                "where": f"{stage['host']}, process {stage['pid']}",
                "since": f"{stage['seconds']:,.0f} s",
                "progress": _progress(stage),
                "left": f"about {stage['left']:,.0f} s" if stage["left"] is not None else "",
            }
            for stage in told["running"]
        ]
        print_rows(rows, list(rows[0]), title="running")
    for title in ("wanted", "failed", "oom", "diverged", "timeout"):
        rows = [
            {"cell": cell["id"], "why": cell.get("reason") or cell.get("command") or ""}
            for cell in told["cells"]
            if cell["status"] == title
        ]
        if rows:
            print_rows(rows, ("cell", "why"), title=title)
    return 0


def verify(arguments: Namespace) -> int:
    """Compare every finished stage with its manifest; damaged ones are put aside, so that the next run makes them again. 1 if any was."""
    store = Store(home() / "store")
    checked, wrong = 0, []
    for folder, files in upkeep.damaged(store):
        checked += 1
        if files:
            wrong.append({"stage": folder.name, "files": files, "moved": str(store.isolate(folder.name))})
    if arguments.json:
        print_json({"checked": checked, "damaged": wrong})
    else:
        for one in wrong:
            print(f"damaged: {one['stage']}: {', '.join(one['files'])}; moved to {one['moved']}")
        print(f"{checked} stages checked, {len(wrong)} damaged{'; run again what needs them' if wrong else ''}.")
    return 1 if wrong else 0


def gc(arguments: Namespace) -> int:
    """List what no record needs and what it would free; delete it after a yes."""
    found = upkeep.litter(home())
    if arguments.json:
        freed = upkeep.remove(found) if arguments.yes else 0
        things = [{"path": str(one.path), "what": one.what, "bytes": one.bytes} for one in found]
        print_json({"found": things, "bytes": sum(one.bytes for one in found), "freed": freed})
        return 0
    if not found:
        print("Nothing to collect: records need all that is in the store.")
        return 0
    rows = [{"what": one.what, "folder": one.path.name, "size": gigabytes(one.bytes)} for one in found]
    print_rows(rows, ("what", "folder", "size"), title=str(home() / "store"))
    total = gigabytes(sum(one.bytes for one in found))
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise PolmError(
                f"{len(found)} folders, {total}, could go. Nothing was deleted: say --yes, or run this on a terminal."
            )
        if input(f"Delete {len(found)} folders, {total}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 0
    print(f"freed {gigabytes(upkeep.remove(found))}.")
    return 0


def _progress(stage: dict[str, Any]) -> str:
    return counted(stage["done"], stage["total"], stage["what"]) if "done" in stage else ""
