"""How long the path from a command to a record takes: start-up, planning, a cold cell, a cell that shares its SFT, a cached one.

    python benchmarks/spine.py [--model nano --data nano --suite nano --budget nano]

Prints whole-process wall seconds and peak memory of each command on a fresh store, and the share of the cold cell that is neither training nor
evaluation. Absolute numbers are this machine's at this moment; run it on an idle one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(words: list[str], home: Path) -> float:
    """Wall seconds of one `polm-bench` command; stops the benchmark if it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "polm_bench", *words],
        env=os.environ | {"POLM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"polm-bench {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    return seconds


def working_seconds(record: Path) -> float:
    """Seconds of the record's own stages that went into training loops, scoring and evaluation."""
    stages = json.loads(record.read_text())["stages"]
    return sum(stage["ledger"]["device_seconds"] for stage in stages if not stage["shared"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for group in ("model", "data", "suite", "budget"):
        parser.add_argument(f"--{group}", default="nano")
    parser.add_argument("--method", default="dpo")
    parser.add_argument("--sharing", default="simpo", help="a method that starts from the same SFT")
    chosen = parser.parse_args()
    cell = [f"{group}={getattr(chosen, group)}" for group in ("model", "data", "suite", "budget")]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for words in (["--help"], ["ls"]):
            timed(words, home)  # once for the disk cache
            print(f"{' '.join(words):<24} {min(timed(words, home) for _ in range(5)):8.2f} s   (best of 5)", flush=True)
        print(
            f"{'plan':<24} {min(timed(['plan', f'+recipe={chosen.method}', *cell], home) for _ in range(3)):8.2f} s   (best of 3)"
        )
        cold = timed(["run", f"+recipe={chosen.method}", *cell], home)
        print(f"{f'run {chosen.method}, cold':<24} {cold:8.1f} s", flush=True)
        record = next((home / "records").glob(f"{chosen.method}-*.json"))
        rest = cold - working_seconds(record)
        print(f"{'  neither trains nor evaluates':<24} {rest:8.1f} s   {rest / cold:.0%} of it")
        print(
            f"{f'run {chosen.sharing}, SFT shared':<24} {timed(['run', f'+recipe={chosen.sharing}', *cell], home):8.1f} s",
            flush=True,
        )
        again = min(timed(["run", f"+recipe={chosen.method}", *cell], home) for _ in range(3))
        print(f"{f'run {chosen.method}, cached':<24} {again:8.2f} s   (best of 3)")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"{'peak memory':<24} {peak / 1e9:8.2f} GB  (largest process)")


if __name__ == "__main__":
    main()
