"""A plan that can't fit is refused with what would fit; what is not known is not refused."""

from __future__ import annotations

import pytest

from polm_bench.run.forecast import Forecast, shortage

GB = 1e9


def test_what_fits_and_what_is_not_known_is_not_refused():
    expected = {"a": Forecast(False, 1.0, 3 * GB, 3 * GB, 3 * GB), "b": Forecast(False, None, None, None)}
    assert shortage(expected, disk_free=4 * GB, memory=4 * GB) is None
    assert shortage({}, 0, 0) is None


def test_what_is_done_needs_no_more_room():
    assert shortage({"a": Forecast(True, 1.0, 9 * GB, 9 * GB, 9 * GB)}, disk_free=0, memory=0) is None


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (
            Forecast(False, 1.0, 1 * GB, 3 * GB, 1 * GB),
            ["6.0 GB on disk", "4.0 GB are free", "polm-bench gc", "POLM_HOME"],
        ),
        (Forecast(False, 1.0, 1 * GB, 0, 9 * GB), ["9.0 GB of memory", "has 8.0 GB", "launch.micro_batch"]),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(one, words):
    told = shortage({"a": one, "b": one}, disk_free=4 * GB, memory=8 * GB)
    assert [word for word in words if word not in told] == []
