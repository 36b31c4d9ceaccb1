"""`drill`: show on this machine that runs lose nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from polm_bench.cli.printing import cell_text, print_json, print_rows, tell

if TYPE_CHECKING:
    from argparse import Namespace

    from polm_bench.drill.cell import Verdict


def drill(arguments: Namespace) -> int:
    """Run one drill in a temporary home and print its figures; 1 when a promise was broken."""
    from polm_bench.drill import crowd, disk, kill, mlflow
    from polm_bench.drill.cell import warm_up

    drills: dict[str, Callable[[Path], Verdict]] = {
        "kill": lambda folder: kill.drill(arguments.times, arguments.seed, folder, tell),
        "crowd": lambda folder: crowd.drill(arguments.processes, folder, tell),
        "disk": lambda folder: disk.drill(folder, tell),
        "mlflow": lambda folder: mlflow.drill(folder, tell),
    }
    warm_up()
    with tempfile.TemporaryDirectory(prefix="polm-drill-", ignore_cleanup_errors=True) as folder:
        verdict = drills[arguments.which](Path(folder))
    if arguments.json:
        told = {"drill": arguments.which, "kept": verdict.kept, "figures": verdict.figures}
        print_json(told | {"promises": verdict.promises, "skipped": verdict.skipped})
    else:
        _print(verdict)
    return 0 if verdict.kept else 1


def _print(verdict: Verdict) -> None:
    rows = [{"what": name, "value": cell_text(value)} for name, value in verdict.figures.items()]
    print_rows(rows, ("what", "value"), title=f"drill {verdict.drill}")
    print()
    for promise, broken in verdict.promises.items():
        print(f"{'BROKEN' if broken else 'kept'}: {promise}")
        for line in broken[:5]:
            print(f"        {line}")
    for case, reason in verdict.skipped.items():
        print(f"skipped: {case}: {reason}")
