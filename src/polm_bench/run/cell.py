"""One cell from plan to record."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.errors import BadOverride, MissingExtra, TooLarge
from polm_bench.run import provenance, record, upkeep
from polm_bench.run.store import Store, writable

if TYPE_CHECKING:
    from polm_bench.cell import Plan
    from polm_bench.run.execute import Reporter, Work


def store_of(home: Path) -> Store:
    return Store(home / "store")


def records_of(home: Path) -> Path:
    return home / "records"


def finished(plan: Plan, home: Path) -> Path | None:
    """The record of an identical cell that ended well, if there is one."""
    path = records_of(home) / f"{plan.record_id}.json"
    return path if ended_well(path) else None


def ended_well(path: Path) -> bool:
    """Whether there is a record, whole, of a cell that ended well."""
    try:
        return bool(json.loads(path.read_text())["status"] == "ok")
    except (OSError, ValueError, KeyError):
        return False


def want(home: Path, plans: Sequence[Plan]) -> None:
    """Note the cells that are about to be run, for `polm-bench status`. Raises StoreError where the home can't be written."""
    missing = {plan.record_id: _command(plan) for plan in plans if not finished(plan, home)}
    if missing:
        store_of(home).prepare()
        with writable(home):
            upkeep.want(home, missing)


def run_cell(plan: Plan, home: Path, reporter: Reporter, work: Work | None = None) -> Path:
    """Run what the store lacks and write the record; returns its path. A cell that is done already is not touched.

    `work` runs a stage; None: as `launch` says. Raises PolmError for the user's mistakes, before anything is started where that can be known.
    """
    if path := finished(plan, home):
        return path
    _one_process()
    _installed(plan)
    quiet()
    from polm_bench.run.execute import execute, perform
    from polm_bench.run.isolate import run_apart

    store = store_of(home)
    _fits(plan, store)
    store.prepare()
    plan.data.prepare()
    started = _now()
    here = partial(run_apart, overrides=plan.overrides) if plan.launch.isolate else perform
    outcomes = execute(plan.goals(), store, plan.launch, reporter, plan.record_id, work or here)
    made = record.build(
        plan.record_id,
        plan.cell(),
        plan.recipe_facts(),
        plan.graph.model,
        plan.evaluations,
        plan.graph.probes,
        outcomes,
        store,
        _provenance(plan, started),
    )
    if made["status"] == "ok":
        items = {row: store.path(stage) / "items.parquet" for row, stage in plan.evaluations.items()}
        made["contamination"] = plan.contamination(home / "overlap", made["scores"], items)
    with writable(home):
        path = record.write(made, plan.evaluations, plan.graph.probes, store, records_of(home))
        upkeep.got(home, plan.record_id)
    return path


def _one_process() -> None:
    """Refuse to be one of several workers: each would run the whole cell on the same store, and nothing would say so."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadOverride(
            f"launch=inline runs in one process, but this one was started as one of {os.environ['WORLD_SIZE']} (WORLD_SIZE). "
            "Start polm-bench itself, not through torchrun or accelerate launch."
        )


def _installed(plan: Plan) -> None:
    """Raises MissingExtra, before anything starts, for a stage whose libraries are not installed, and BadOverride for what the launch lacks."""
    if lacking := plan.launch.lacks():
        raise BadOverride(lacking)
    for stage in plan.stages():
        for module, extra in stage.needs.items():
            if find_spec(module) is None:
                raise MissingExtra(f"recipe '{plan.names['recipe']}'", extra)


def _fits(plan: Plan, store: Store) -> None:
    """Raises TooLarge for a stage that needs more memory than this machine has, even with the smallest micro-batch.

    A disk may be given room meanwhile, and one that is full loses nothing, so that is left to the store.
    """
    import psutil

    from polm_bench.run.forecast import least, shortage

    expected = least(plan.stages(), store, plan.launch, plan.folders())
    if lacking := shortage(expected, math.inf, psutil.virtual_memory().total):
        raise TooLarge(lacking)


def quiet() -> None:
    """Keep libraries' bars and notices out of our progress; read when they are imported. What the user has set stands."""
    usual = {
        "TQDM_DISABLE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    for name, value in usual.items():
        os.environ.setdefault(name, value)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel that it would download


def _provenance(plan: Plan, started: str) -> dict[str, Any]:
    return {
        "versions": provenance.versions(),
        "git": provenance.git(),
        "model": plan.model.describe(),
        "data": plan.data.describe(),
        "machine": provenance.machine(),
        "threads": provenance.threads(),
        "command": _command(plan),
        "started": started,
        "finished": _now(),
    }


def _command(plan: Plan) -> str:
    return shlex.join(["polm-bench", "run", *plan.overrides])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
