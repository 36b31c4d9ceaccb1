"""Cells without models for tests of the drills: stages of the names that the drills look for, which take tens of milliseconds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from pydantic.dataclasses import dataclass
from tests.run.toy_stages import LAUNCH

from polm_bench.drill.cell import NOTHING, act, log_of
from polm_bench.errors import PolmError
from polm_bench.files import write_json
from polm_bench.graph import FORBID, Stage
from polm_bench.run import record, upkeep
from polm_bench.run.elsewhere import Ended, Errand
from polm_bench.run.execute import execute, perform
from polm_bench.run.progress import PlainReporter
from polm_bench.run.store import Store, writable
from polm_bench.run.track import track

STEPS, SECONDS = 12, 0.004
BYTES = 64_000  # of weights, and of a checkpoint
PROVENANCE = {"started": "2026-11-20T10:00:00+00:00", "finished": "2026-11-20T10:00:12+00:00", "command": "toy"}


@dataclass(frozen=True, config=FORBID)
class TrainSFT(Stage):
    """Weights that depend on every step, with a checkpoint after each."""

    seed: int

    def run(self, job) -> None:
        train(job, f"sft {self.seed}")


@dataclass(frozen=True, config=FORBID)
class TrainPairs(Stage):
    init: Stage
    recipe: str

    def run(self, job) -> None:
        train(job, self.recipe + sha256((job.path(self.init) / "model.safetensors").read_bytes()).hexdigest())


@dataclass(frozen=True, config=FORBID)
class Evaluate(Stage):
    model: Stage

    def run(self, job) -> None:
        time.sleep(SECONDS)
        weights = (job.path(self.model) / "model.safetensors").read_bytes()
        score = {"task": "toy", "metric": "acc", "filter": "none", "value": weights[0] / 255}
        (job.out / "scores.json").write_text(json.dumps([score]))
        (job.out / "items.parquet").write_bytes(weights[:2000])
        job.ledger.add(tokens_scored=len(weights))


def train(job, told: str) -> None:
    """Goes on from the last whole checkpoint; with TOY_FORGETFUL from it but as if it were the first, which the drill must notice."""
    state, curve = told.encode(), []
    whole = sorted(job.scratch.glob("checkpoint-*/complete.json"), key=lambda mark: int(mark.parent.name[11:]))
    if whole:
        curve = json.loads(whole[-1].read_text())
        state = b"forgotten" if "TOY_FORGETFUL" in os.environ else (whole[-1].parent / "state").read_bytes()[:32]
    for step in range(len(curve), STEPS):
        state = sha256(state).digest()
        curve.append({"step": step, "loss": state[0] / 255})
        folder = job.scratch / f"checkpoint-{step}"
        folder.mkdir(exist_ok=True)
        (folder / "state").write_bytes(state * (BYTES // 32))
        write_json(folder / "complete.json", curve)  # whole or not there: a kill may come in the middle
        job.progress(step, STEPS, "steps")
        time.sleep(SECONDS)
    job.curve_points[:] = curve
    job.ledger.add(tokens_trained=STEPS)
    (job.out / "model.safetensors").write_bytes(state * (BYTES // 32))


def start(
    words: Sequence[str],
    home: Path,
    apart: bool = False,
    log: Path | None = None,
    environment: Mapping[str, str] = NOTHING,
) -> BaseProcess:
    """As the drills' own, with the cells of this file."""
    process = get_context("fork").Process(target=_run, args=(words, home, apart, log or log_of(home), environment))
    process.start()
    return process


def work(errand: Errand) -> Ended:
    """A cell of this file in a worker that `launch` says."""
    values = dict(word.lstrip("+").split("=") for word in errand.words)
    home = Path(errand.home)
    if values["recipe"] == "mistaken":
        return Ended(errand.number, None, "no such recipe")
    _cell(values["recipe"], int(values["seed"]), home, log_of(home).with_suffix(".journal"))
    return Ended(errand.number, str(home / "records" / f"{values['recipe']}-toy-s{values['seed']}.json"))


def _run(words: Sequence[str], home: Path, apart: bool, log: Path, environment: Mapping[str, str]) -> None:
    act(lambda: _cells(words, home, log.with_suffix(".journal")), apart, log, environment)


def _cells(words: Sequence[str], home: Path, journal: Path) -> int:
    values = dict(word.lstrip("+").split("=") for word in words if "=" in word)
    for recipe in values["recipe"].split(","):
        _cell(recipe, int(values.get("seed", 0)), home, journal)
        if values.get("track") == "mlflow":
            track(home / "records" / f"{recipe}-toy-s{values.get('seed', 0)}.json", home)
    return 0


def _cell(recipe: str, seed: int, home: Path, journal: Path) -> None:
    name = f"{recipe}-toy-s{seed}"
    if (home / "records" / f"{name}.json").exists():
        return
    store = Store(home / "store")
    store.prepare()
    with writable(home):
        upkeep.want(home, {name: f"toy {recipe}"})
    base = TrainSFT(seed)
    model = TrainPairs(base, recipe)
    judges = {"base": Evaluate(base), "self": Evaluate(model)}

    def work(stage, job) -> None:
        with journal.open("a") as begun:
            begun.write(f"{stage.folder} {os.getpid()}\n")
        perform(stage, job)

    outcomes = execute(list(judges.values()), store, LAUNCH, PlainReporter(), name, work)
    cell = dict.fromkeys(("model", "data", "budget", "suite"), "toy") | {"recipe": recipe, "seed": seed, "config": {}}
    made = record.build(name, cell, {}, model, judges, {}, outcomes, store, PROVENANCE)
    with writable(home):
        record.write(made, judges, {}, store, home / "records")
        upkeep.got(home, name)
    if made["status"] != "ok":
        raise PolmError(f"{name}: {made['reason']}")
