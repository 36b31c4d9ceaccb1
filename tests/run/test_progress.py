"""How far a stage is, in words."""

from __future__ import annotations

import pytest

from polm_bench.run.progress import counted


@pytest.mark.parametrize(
    ("done", "total", "words"),
    [
        (20, 74, "20 of 74 steps"),
        (1500, 24000, "1,500 of 24,000 steps"),
        (3, 0, "3 steps"),
        (0.378, 1, "38 % steps"),
    ],
)
def test_a_count_has_its_whole_where_that_is_known_and_a_share_is_in_per_cent(done, total, words):
    assert counted(done, total, "steps") == words
