"""Work as one of two processes that know of each other, and cells whose stages they share. Both are forked from one that has its imports done."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from polm_bench.config import plan
from polm_bench.drill.cell import warm_up
from polm_bench.errors import PartDone
from polm_bench.graph import ordered
from polm_bench.run.execute import perform
from polm_bench.run.isolate import _meeting
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


def run_all(orders: str) -> None:
    """The cells that the file of orders names; what the first of the processes tells of each goes beside it."""
    rank, processes = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    for name, (folder, read, words) in json.loads(Path(orders).read_text()).items():
        told = run(words, Path(folder), rank, processes, Path(read))
        if rank == 0:
            Path(orders).with_name(f"{name}.json").write_text(json.dumps(told))


def by_two(work: Callable[[str], None], word: str) -> None:
    """Two processes do the work; when one of them fails, the other is ended."""
    warm_up()
    usual = _meeting(2)
    start = get_context("forkserver").Process
    both = [start(target=_member, args=(work, word, usual | {"RANK": rank, "LOCAL_RANK": rank})) for rank in "01"]
    for process in both:
        process.start()
    while not any(process.exitcode for process in both) and (left := [one for one in both if one.is_alive()]):
        connection.wait([process.sentinel for process in left])
    for process in both:
        process.kill()
        process.join()
    assert [process.exitcode for process in both] == [0, 0]


def _member(work: Callable[[str], None], word: str, environment: dict[str, str]) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    work(word)
