"""Preference training beside trl's DPOTrainer: the same model, pairs, batches and precision, each run in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.errors import PolmError
from polm_bench.graph import FORBID

Json = dict[str, Any]
Side = Literal["ours", "ours_separate", "trl", "trl_precomputed"]
SIDES: dict[str, str] = {
    "ours": "PairTrainer, the common beginning of a pair computed once, the reference's log-probs made beforehand",
    "ours_separate": "PairTrainer as recipes use it by default: chosen and rejected each with their prompt",
    "trl": "DPOTrainer as it comes: the reference in memory",
    "trl_precomputed": "DPOTrainer with precompute_ref_log_probs",
}
AIMS = {"throughput": 1.5, "memory": 0.75}  # ours as multiples of trl's: at least, at most
TIMED = (
    "pairs_per_second",
    "pairs_per_second_with_reference",
    "cpu_seconds_per_pair",
    "peak_bytes",
    "baseline_bytes",
)
"""Figures of a run that differ from run to run."""
CLOSE = 1e-5  # relative difference of losses


class Spread(NamedTuple):
    """Triangular distribution of a number of tokens."""

    least: int
    mode: int
    most: int


class Lengths(NamedTuple):
    """How long the parts of a pair are."""

    prompt: Spread
    completion: Spread
    source: str


LENGTHS = {
    "short": Lengths(Spread(13, 15, 17), Spread(10, 12, 15), "data=nano under nano's tokenizer"),
    "reviews": Lengths(
        Spread(35, 43, 50),
        Spread(4, 18, 52),
        "data=reviews under SmolLM2's tokenizer: 5 %, half and 95 % of prompts below 37, 43 and 48 tokens, of completions below 8, 24 and 45",
    ),
    "long": Lengths(
        Spread(160, 224, 288),
        Spread(24, 36, 48),
        "Stiennon et al. 2020 (arXiv:2009.01325), TL;DR: summaries of 24 to 48 tokens; its posts reach 512, these fit nano's context",
    ),
}
MODELS = ("nano", "smollm2_135m", "tiny")


@dataclass(frozen=True, config=FORBID)
class Task:
    """One run of one side."""

    side: Side
    model: str
    lengths: str
    batch: PositiveInt = 8
    steps: PositiveInt = 8  # timed, after `warm`
    warm: PositiveInt = 2
    threads: PositiveInt = 2
    lr: float = Field(default=5.0e-6, gt=0)  # so that the losses move, and rounding is not amplified
    seed: int = 0


class Compared(NamedTuple):
    """Medians of each side over the rounds for one model and one kind of lengths, and ours beside trl's."""

    model: str
    lengths: str
    sides: dict[str, Json]
    ratios: dict[str, dict[str, float]]  # side -> throughput and memory, as multiples of trl's
    loss_difference: float  # the largest relative one between two sides at any step


def compare(tasks: Sequence[Task], rounds: int, say: Callable[[str], None]) -> list[Compared]:
    """Run the sides in turn (A B A B), `rounds` times, for each model and kind of lengths."""
    found = []
    for model, lengths in dict.fromkeys((task.model, task.lengths) for task in tasks):
        own = [task for task in tasks if (task.model, task.lengths) == (model, lengths)]
        runs: dict[str, list[Json]] = {task.side: [] for task in own}
        for number in range(rounds):
            for task in own:
                told = measure(task)
                runs[task.side].append(told)
                say(
                    f"{model}, {lengths}, {task.side}, {number + 1} of {rounds}: {told['pairs_per_second']:.3g} pairs/s"
                )
        found.append(summarise(model, lengths, runs))
    return found


def measure(task: Task) -> Json:
    """Run one side in a process of its own. Raises PolmError when it fails."""
    with tempfile.TemporaryDirectory(prefix="polm-bench-") as folder:
        answer = Path(folder) / "found.json"
        told = json.dumps(dataclasses.asdict(task) | {"answer": str(answer)})
        done = subprocess.run(
            [sys.executable, "-m", "polm_bench.bench.side", told],
            env=os.environ | {"OMP_NUM_THREADS": str(task.threads), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answer.exists():
            raise PolmError(f"the side '{task.side}' ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found: Json = json.loads(answer.read_text())
        return found


def summarise(model: str, lengths: str, runs: dict[str, list[Json]]) -> Compared:
    """Medians of all figures; counts and losses are those of the first run, as every run has the same."""
    sides = {side: _median(told) for side, told in runs.items()}
    ratios = {}
    for side, one in sides.items():
        if side != "trl" and "trl" in sides:
            ratios[side] = {
                "throughput": one["pairs_per_second"] / sides["trl"]["pairs_per_second"],
                "with_reference": one["pairs_per_second_with_reference"]
                / sides["trl"]["pairs_per_second_with_reference"],
                "cpu_seconds": one["cpu_seconds_per_pair"] / sides["trl"]["cpu_seconds_per_pair"],
                "memory": one["peak_bytes"] / sides["trl"]["peak_bytes"],
                "tokens": one["tokens_per_pair"] / sides["trl"]["tokens_per_pair"],
                "flops": one["flops_per_pair"] / sides["trl"]["flops_per_pair"],
            }
    steps = zip(*(one["losses"] for one in sides.values()), strict=True)
    difference = max((max(each) - min(each)) / abs(min(each)) for each in steps)
    return Compared(model, lengths, sides, ratios, difference)


def _median(runs: Sequence[Json]) -> Json:
    first = runs[0]
    timed = {name: statistics.median(run[name] for run in runs) for name in TIMED}
    split = {name: statistics.median(run["split"][name] for run in runs) for name in first["split"]}
    return first | timed | {"split": split}


def reached(found: Compared, side: str = "ours") -> dict[str, bool]:
    """Whether each aim is met by a side."""
    ratio = found.ratios[side]
    return {
        "throughput": ratio["throughput"] >= AIMS["throughput"],
        "memory": ratio["memory"] <= AIMS["memory"],
        "losses": found.loss_difference <= CLOSE,
    }
