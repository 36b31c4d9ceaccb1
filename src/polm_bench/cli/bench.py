"""`bench`: how fast our trainers are beside those of the libraries they are checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polm_bench.cli.printing import print_json, print_rows, tell
from polm_bench.errors import UnknownName

if TYPE_CHECKING:
    from argparse import Namespace

    from polm_bench.bench.preference import Compared

GB, GFLOP = 1e9, 1e9
KINDS = {"models": "model", "lengths": "lengths", "sides": "side"}


def bench(arguments: Namespace) -> int:
    """Measure, and print medians and ratios; 1 when the losses of the two differ."""
    from polm_bench.bench.preference import AIMS, CLOSE, LENGTHS, MODELS, SIDES, Task, compare, reached

    for kind, known in (("models", MODELS), ("lengths", LENGTHS), ("sides", SIDES)):
        for name in getattr(arguments, kind):
            if name not in known:
                raise UnknownName(KINDS[kind], name, known)
    tasks = [
        Task(
            side=side,
            model=model,
            lengths=lengths,
            batch=arguments.batch,
            steps=arguments.steps,
            threads=arguments.threads,
        )
        for model in arguments.models
        for lengths in arguments.lengths
        for side in arguments.sides
    ]
    found = compare(tasks, arguments.rounds, tell)
    if arguments.json:
        told = [one._asdict() | {"reached": {side: reached(one, side) for side in one.ratios}} for one in found]
        print_json({"aims": AIMS, "sides": SIDES, "lengths": _sources(LENGTHS), "found": told})
    else:
        for one in found:
            _print(one)
        print(f"Aims: throughput at least {AIMS['throughput']} and memory at most {AIMS['memory']} times trl's.")
        print("Memory: peak resident bytes of the process (VmHWM) above those after its imports.")
        print("Sides: " + "; ".join(f"{side}: {SIDES[side]}" for side in arguments.sides) + ".")
    return 0 if all(one.loss_difference <= CLOSE for one in found) else 1


def _print(found: Compared) -> None:
    rows = [_row(side, one) for side, one in found.sides.items()]
    print_rows(rows, tuple(rows[0]), title=f"{found.model}, lengths as in '{found.lengths}'")
    print()
    split = [
        {"ms a step": side, **{name: round(ms, 1) for name, ms in one["split"].items()}}
        for side, one in found.sides.items()
    ]
    print_rows(split, tuple(split[0]))
    print()
    ratios: list[dict[str, Any]] = [
        {"as multiples of trl's": side, **{name: round(value, 2) for name, value in one.items()}}
        for side, one in found.ratios.items()
    ]
    if ratios:
        print_rows(ratios, tuple(ratios[0]))
    print(f"largest relative difference of two losses at one step: {found.loss_difference:.1e}\n")


def _row(side: str, one: dict[str, Any]) -> dict[str, Any]:
    return {
        "side": side,
        "pairs/s": round(one["pairs_per_second"], 3),
        "... with the reference's pass": round(one["pairs_per_second_with_reference"], 3),
        "CPU s a pair": round(one["cpu_seconds_per_pair"], 4),
        "peak GB": round(one["peak_bytes"] / GB, 3),
        "tokens a pair": round(one["tokens_per_pair"], 1),
        "GFLOP a pair": round(one["flops_per_pair"] / GFLOP, 3),
    }


def _sources(lengths: dict[str, Any]) -> dict[str, str]:
    return {name: one.source for name, one in lengths.items()}
