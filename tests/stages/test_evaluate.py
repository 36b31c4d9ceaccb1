"""What a suite's limits leave of its tasks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.run import crew

TASKS = ("nano_arithmetic", "nano_facts_choice", "nano_steering", "nano_text")


@pytest.mark.slow
def test_one_limit_for_all_tasks_takes_the_items_that_a_limit_of_each_takes(toy_model, tmp_path):
    words = ["+recipe=base", f"model.path={toy_model}", "budget=smoke", "suite=smoke", "launch.threads=1"]
    found = {}
    for name, limits in (("one", (3, 3, 3, 3)), ("own", (3, 3, 3, 2))):
        given = [f"suite.tasks.{task}.limit={limit}" for task, limit in zip(TASKS, limits, strict=True)]
        (tmp_path / name).mkdir()
        told = crew.run([*words, *given], tmp_path / name)["Evaluate"]
        items = pd.read_parquet(Path(told["out"]) / "items.parquet")
        found[name] = {task: items[items.task == task].reset_index(drop=True) for task in TASKS}
        assert [found[name][task]["item"].nunique() for task in TASKS] == list(limits)
    for task in TASKS[:3]:
        pd.testing.assert_frame_equal(found["one"][task], found["own"][task])
