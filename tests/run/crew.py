"""Runs cells as one of several processes that share their stages, all in one process a rank, so that imports are paid once."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from polm_bench.config import plan
from polm_bench.errors import PartDone
from polm_bench.graph import ordered
from polm_bench.run.execute import perform
from polm_bench.run.job import Job

TOLD = "told.json"


def run(
    words: list[str], folder: Path, rank: int = 0, processes: int = 1, read: Path | None = None
) -> dict[str, dict[str, Any]]:
    """Curve and ledger of each stage of a cell, by kind; what the folder has is not run again.

    Stages read what others made in the folder `read`, their own by default: what is sampled from weights that differ by rounding can be another answer.
    A model that is trained is not judged, so that evaluations are compared on the same weights.
    """
    from accelerate import PartialState

    found = plan(words)
    told = {}
    paths: dict[str, Path] = {}
    trained = found.graph.model
    for stage in ordered(trained if trained.inputs else found.evaluations.get("self", found.evaluations["base"])):
        out = folder / stage.folder
        paths[stage.key] = (read or folder) / stage.folder
        shared = processes if stage.parallel else 1
        if rank < shared and not (out / TOLD).exists():
            job = Job(out, folder / f"scratch-{stage.key}", paths, found.launch, "cpu")
            job.rank, job.processes = rank, shared
            out.mkdir(parents=True, exist_ok=True)
            job.scratch.mkdir(exist_ok=True)
            with contextlib.suppress(PartDone):
                perform(stage, job)
                (out / TOLD).write_text(json.dumps({"curve": job.curve_points, "ledger": job.ledger.to_dict()}))
        if processes > 1:
            PartialState(cpu=True).wait_for_everyone()  # until the first has written
        told[type(stage).__name__] = json.loads((out / TOLD).read_text()) | {"out": str(out)}
    return told


if __name__ == "__main__":
    rank, processes = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    for name, (folder, read, words) in json.loads(Path(sys.argv[1]).read_text()).items():
        told = run(words, Path(folder), rank, processes, Path(read))
        if rank == 0:
            Path(sys.argv[1]).with_name(f"{name}.json").write_text(json.dumps(told))
