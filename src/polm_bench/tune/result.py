"""The record of a tuned cell: the best trial, tested once, and all trials beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.graph import KEY_LENGTH
from polm_bench.tune.curve import best_after
from polm_bench.tune.space import Dimension
from polm_bench.tune.study import Study, Trial, best_of

if TYPE_CHECKING:
    from polm_bench.run.execute import Reporter

ORIGIN = "tuning"
"""Where a tuned setting's value comes from, in a record's origins."""


def record_best(study: Study, trials: Sequence[Trial], reporter: Reporter) -> Path | None:
    """Put the suite to the best trial's model, once, and write the record; None where every trial failed.

    A tuned record has an id of its own, so that one with the recipe's own numbers can stand beside it.
    """
    from polm_bench.config import plan
    from polm_bench.files import write_json
    from polm_bench.run.cell import ended_well, records_of, run_cell

    best = best_of(trials)
    if best is None:
        return None
    planned = plan(study.words_of(best.settings))
    records = records_of(study.home)
    plain = records / f"{planned.record_id}.json"
    prefix = planned.record_id.rpartition("-")[0]
    digest = hashlib.sha256(f"{planned.record_id} {study.name} {study.options.trials}".encode()).hexdigest()
    target = records / f"{prefix}-{digest[:KEY_LENGTH]}.json"
    if ended_well(target):
        return target
    was_there = plain.exists()
    made = json.loads(run_cell(planned, study.home, reporter).read_text())
    chosen = {f"recipe.{name}" for name in best.settings}
    cell = planned.cell()
    cell["origins"] = {name: ORIGIN if name in chosen else origin for name, origin in cell["origins"].items()}
    tuned = made | {"id": target.stem, "cell": cell, "tuning": told(study, trials, best)}
    tuned["provenance"] = made["provenance"] | {"command": command(study)}
    write_json(target, tuned)
    if not was_there:
        plain.unlink()
    return target


def told(study: Study, trials: Sequence[Trial], best: Trial) -> dict[str, Any]:
    """The record's `tuning`."""
    return {
        "study": study.name,
        "trials": study.options.trials,
        "sampler": study.options.sampler,
        "seed": study.options.seed,
        "by": study.search.by,
        "space": {name: _values(one) for name, one in study.search.space.items()},
        "best": best.number,
        "chosen": best.settings,
        "seconds": round(math.fsum(one.seconds for one in trials), 3),
        "tried": [one._asdict() for one in trials],
        "best_after": [one._asdict() for one in best_after([one.value for one in trials])],
    }


def _values(one: Dimension) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(one).items() if value is not None and value is not False}


def command(study: Study) -> str:
    """What rebuilds it."""
    options = study.options
    words = [f"tune.trials={options.trials}", f"tune.sampler={options.sampler}", f"tune.seed={options.seed}"]
    return shlex.join(["polm-bench", "tune", *study.words, *words])
