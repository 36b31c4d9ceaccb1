"""How long it takes to look at many records: `ls records`, `status` and a table, at 100, 1,000 and 10,000 of them.

    python benchmarks/records.py [--counts 100 1000 10000] [--table overview]

The records are copies of the published ones under other seeds, whole and with all they hold; the items of their evaluations are shared, as those
of real records are. Prints processor and wall seconds of each command as a process of its own (the best of `--times`), and how the former grow:
time that does not depend on the number is left out of the growth, so 10.0 is linear where the number is ten times as large.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import count, cycle, islice, pairwise
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parents[1] / "results"


def fill(home: Path, wanted: int, table: str) -> None:
    """The table's own records, and copies of them under other seeds until there are `wanted`."""
    source = RESULTS / table / "records"
    folder = home / "records"
    shutil.copytree(source, folder)
    paths = sorted(source.glob("*.json"))
    originals = [json.loads(path.read_text()) for path in paths]
    copies = zip(cycle(originals), count(1000), strict=False)
    for record, seed in islice(copies, max(0, wanted - len(paths))):
        start, _, digest = record["id"].rpartition("-")
        name = f"{start.rpartition('-')[0]}-s{seed}-{digest}"
        made = record | {"id": name, "cell": record["cell"] | {"seed": seed}}
        (folder / f"{name}.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


class Taken(NamedTuple):
    """Seconds of one command."""

    processor: float
    wall: float


def seconds(words: list[str], home: Path, times: int) -> Taken:
    """The least processor seconds of a command, and the least wall seconds."""
    found = []
    for _ in range(times):
        started, before = time.perf_counter(), os.times()
        subprocess.run(
            [sys.executable, "-m", "polm_bench", *words],
            env=os.environ | {"POLM_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        found.append(Taken(processor, time.perf_counter() - started))
    return Taken(*map(min, zip(*found, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--table", default="overview", help="a published table")
    parser.add_argument("--times", type=int, default=3)
    chosen = parser.parse_args()
    commands = {
        "ls records": ["ls", "records"],
        "status": ["status"],
        f"table {chosen.table}": ["table", chosen.table, "--records", "{records}"],
    }
    found: dict[str, list[Taken]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for number in (0, *chosen.counts):
            home = Path(folder) / str(number)
            fill(home, number, chosen.table)
            for name, words in commands.items():
                told = [word.format(records=home / "records") for word in words]
                found[name].append(seconds(told, home, chosen.times))
            shutil.rmtree(home)
    print(f"{'records':<18}" + "".join(f"{number:>20,}" for number in chosen.counts) + "   growth at each step")
    for name, (least, *taken) in found.items():
        above = [max(one.processor - least.processor, 1e-3) for one in taken]
        growth = ", ".join(f"{after / before:.1f}" for before, after in pairwise(above))
        print(f"{name:<18}" + "".join(f"{one.processor:>10.2f} ({one.wall:.2f}) s" for one in taken) + f"   {growth}")


if __name__ == "__main__":
    main()
