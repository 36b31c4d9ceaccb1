"""How long the statistics of one large score take: every method's interval and every pair's test.

    python benchmarks/many_methods.py [--methods 100 --items 10000 --resamples 10000 --seeds 1]

Prints seconds of the wall clock, seconds of the processor, and peak memory. The aim: 100 methods, 10,000 items and 10,000 resamples in under 30 s on two cores and under 4 GB.
`--records 10000` also times a table of 50 methods and three seeds from a folder of that many records.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from polm_bench.stats import Bootstrap, corrected_pairs, mean_intervals, pair_p_values, rank_intervals


class Watch:
    """Wall and processor seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        return f"{wall:8.1f} s, processor {cpu:6.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("methods", 100), ("items", 10_000), ("resamples", 10_000), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--records", type=int, default=0)
    chosen = parser.parse_args()
    rng = np.random.default_rng(0)
    skill = np.linspace(0.4, 0.6, chosen.methods)[:, None, None]
    scores = rng.normal(skill, 0.3, (chosen.methods, chosen.seeds, chosen.items))
    bootstrap = Bootstrap(rng, chosen.resamples, chosen.resamples - 1)
    watch = Watch()
    found = mean_intervals(scores, bootstrap)
    print(f"{len(found)} intervals         {watch}", flush=True)
    watch = Watch()
    table = corrected_pairs(pair_p_values(scores, bootstrap))
    rank_intervals([one.mean for one in found], table)
    pairs = chosen.methods * (chosen.methods - 1) // 2
    print(f"{pairs} tests and ranks  {watch}", flush=True)
    if chosen.records:
        time_table(chosen.records)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"peak memory            {peak / 1e9:8.2f} GB")


def time_table(count: int) -> None:
    """A table of 50 methods and three seeds, from a folder of `count` records."""
    import tempfile
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.report.conftest import make_spec
    from tests.report.synthetic import SKILL, make_record, write_json, write_record

    from polm_bench.paths import conf_dir
    from polm_bench.report.page import render
    from polm_bench.report.table import read

    methods = [f"method_{number:02}" for number in range(50)]
    SKILL.update(dict.fromkeys(methods, 1.0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for method in ("base", *methods):
            for seed in (0, 1, 2):
                write_record(folder, method, seed)
        for number in range(count - 3 * len(methods) - 3):
            write_json(folder, make_record("other", number))
        for seeds in ([0], [0, 1, 2]):
            watch = Watch()
            made = read(make_spec(recipes=["base", *methods], seeds=seeds, overall=True), folder, conf_dir())
            render(made.page, "md")
            print(f"table of {len(made.records)} of {count} records {watch}", flush=True)


if __name__ == "__main__":
    main()
