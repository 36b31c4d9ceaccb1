"""Intervals, paired tests and corrections for scores of items, over seeds. Pure: arrays in, numbers out.

Scores are a matrix `[S, N]` (seed, item), or `[N]` for one seed: all seeds answer the same items, so an item's difficulty is shared by the seeds
and more seeds don't average it away. Items that share a source (a passage, an author) share a cluster and are drawn together. A score is the
weighted mean of its items, with one weight per item (bytes, for bits per byte). Several methods on the same items are a cube `[M, S, N]`.

All randomness comes from the generator given to `Bootstrap`.
"""

from polm_bench.stats.aggregate import Aggregate, iqm, over_runs, probability_of_improvement
from polm_bench.stats.best import chance_of_best
from polm_bench.stats.bootstrap import FLIPS, RESAMPLES, Bootstrap
from polm_bench.stats.equivalence import Equivalence, equivalence
from polm_bench.stats.interval import LEVEL, Interval, mean_interval, mean_intervals
from polm_bench.stats.many import benjamini_hochberg, corrected_pairs, holm, rank_groups, rank_intervals
from polm_bench.stats.paired import Difference, mcnemar, pair_p_values, paired_difference, seed_difference, sign_flip
from polm_bench.stats.planner import Components, clusters_needed, components, power, seeds_needed, visible_effect
from polm_bench.stats.split import Split, split
from polm_bench.stats.student import chance_above

__all__ = [
    "FLIPS",
    "LEVEL",
    "RESAMPLES",
    "Aggregate",
    "Bootstrap",
    "Components",
    "Difference",
    "Equivalence",
    "Interval",
    "Split",
    "benjamini_hochberg",
    "chance_above",
    "chance_of_best",
    "clusters_needed",
    "components",
    "corrected_pairs",
    "equivalence",
    "holm",
    "iqm",
    "mcnemar",
    "mean_interval",
    "mean_intervals",
    "over_runs",
    "pair_p_values",
    "paired_difference",
    "power",
    "probability_of_improvement",
    "rank_groups",
    "rank_intervals",
    "seed_difference",
    "seeds_needed",
    "sign_flip",
    "split",
    "visible_effect",
]
