"""Memory that the system denies: recorded as oom, and with smaller micro-batches the same result as with room for all."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass
from tests.run.toy_stages import LAUNCH, run

from polm_bench.graph import FORBID, Stage
from polm_bench.run.store import Store

pytestmark = pytest.mark.slow  # PyTorch takes seconds to import

MEGABYTE = 2**20
ROWS, ROW = 64, 20 * MEGABYTE
GROUPS = Path("/sys/fs/cgroup")  # of the second version; the first has a folder memory in it


@dataclass(frozen=True, config=FORBID)
class Sum(Stage):
    """Adds up what its rows hold, a micro-batch at a time, each of which takes `ROW` bytes a row."""

    rows: int = ROWS

    def run(self, job) -> None:
        import torch

        total = 0.0
        for start in range(0, self.rows, job.launch.micro_batch):
            held = torch.empty((min(job.launch.micro_batch, self.rows - start), ROW), dtype=torch.uint8)
            total += sum(range(start, start + len(held)))
        (job.out / "total.txt").write_text(f"{total}")


def apart(do: Callable[[Path], None], folder: Path) -> None:
    """In a forked process, whose limits stay its own."""
    process = get_context("fork").Process(target=do, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0


def with_little_memory(folder: Path) -> None:
    import torch  # noqa: F401  before the limit counts

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 20 * ROW, resource.RLIM_INFINITY))
    refused = run([Sum()], Store(folder / "record"))
    shrunk = run([Sum()], Store(folder / "shrink"), launch=replace(LAUNCH, on_oom="shrink"))
    told = [[outcome.status, outcome.reason] for (outcome,) in (refused, shrunk)]
    (folder / "told.json").write_text(json.dumps(told))


def with_all_memory(folder: Path) -> None:
    run([Sum()], Store(folder / "all"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_a_limit_denies_is_recorded_and_smaller_micro_batches_give_the_same(tmp_path):
    apart(with_little_memory, tmp_path)
    apart(with_all_memory, tmp_path)
    (refused, reason), (shrunk, _) = json.loads((tmp_path / "told.json").read_text())
    assert (refused, shrunk) == ("oom", "ok")
    assert "can't allocate memory" in reason
    totals = {(Store(tmp_path / name).path(Sum()) / "total.txt").read_text() for name in ("shrink", "all")}
    assert totals == {f"{sum(range(ROWS)):.1f}"}


@pytest.fixture
def small_group():
    """A control group of the kernel that has 300 MB."""
    first = (GROUPS / "memory").is_dir()
    group = (GROUPS / "memory" if first else GROUPS) / f"polm-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of its own: {error}")
    try:
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(f"{300 * MEGABYTE}")
        yield group
    except OSError as error:
        pytest.skip(f"its memory can't be limited: {error}")
    finally:
        group.rmdir()


def test_what_the_kernel_kills_for_memory_is_a_record_that_says_so(home, small_group):
    words = "run +recipe=sft budget=smoke suite=smoke track=none launch=process launch.device=cpu".split()
    joined = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.executable, sys.argv[2:])"
    command = [sys.executable, "-c", joined, small_group / "cgroup.procs", sys.executable, "-m", "polm_bench", *words]
    assert subprocess.run(command, env=os.environ, capture_output=True, check=False).returncode == 1
    record = json.loads(next((home / "records").glob("*.json")).read_text())
    assert record["status"] == "oom"
    assert "the kernel killed the stage's process" in record["reason"]
