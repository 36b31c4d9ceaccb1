"""Which cells would tell two methods apart that lead together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from polm_bench.report.parts import Column
from polm_bench.report.power import components_of
from polm_bench.report.ranking import seedless
from polm_bench.report.spec import Place
from polm_bench.stats import clusters_needed, seeds_needed

if TYPE_CHECKING:
    from polm_bench.report.advice import Candidate

POWER = 0.8


class Next(NamedTuple):
    """What would settle a tie between the two that lead."""

    leader: str
    rival: str
    cells: tuple[tuple[str, float], ...]  # command, and the seconds that other seeds of it took
    seeds: int | None  # that would show a difference as the one seen with power 0.8; None: no number would, or unknown
    items: int | None  # ... at the present seeds, where no number of seeds would
    gap: float


def settle(place: Place, column: Column, fit: Sequence[Candidate]) -> Next | None:
    """The cells that would tell the likeliest best from its likeliest rival; None where nothing stands in doubt, or no seed would tell."""
    tied = [one for one in fit if one.rank is not None and one.rank[0] == 1]
    if len(tied) < 2:
        return None
    leader, rival = tied[:2]
    open_ = [each for each in (leader, rival) if not seedless(each.entry)]
    if not open_:
        return None
    seeds = [{one.seed for one in each.entry.evaluations} for each in open_]
    wanted = next(seed for seed in range(len(set.union(*seeds)) + 1) if any(seed not in own for own in seeds))
    todo = [each for each, own in zip(open_, seeds, strict=True) if wanted not in own]
    pairs = [
        (one, other) for one in leader.entry.evaluations for other in rival.entry.evaluations if one.seed == other.seed
    ]
    apart = abs(leader.figure.value - rival.figure.value) if leader.figure and rival.figure else 0.0
    split = components_of(pairs, column.name) if pairs else None
    needed = items = None
    if split and apart:
        needed = seeds_needed(apart, split[0], split[2], POWER)
        if needed is None:
            count = clusters_needed(apart, split[0], max(2, len(pairs)), POWER)
            items = None if count is None else round(count * split[1] / split[2])
    commands = ("polm-bench run " + " ".join(place.overrides(each.entry.name, wanted)) for each in todo)
    took = (3600 * each.hours + _judging(each) for each in todo)
    return Next(leader.entry.name, rival.entry.name, tuple(zip(commands, took, strict=True)), needed, items, apart)


def _judging(one: Candidate) -> float:
    """Seconds that the suite takes."""
    told = [float(record.data["cost"].get("evaluation_seconds") or 0) for record in one.entry.records]
    return sum(told) / len(told)
