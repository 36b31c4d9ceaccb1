"""The suites name tasks that lm-eval has, and a metric of each."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parents[2] / "conf" / "suite"
LM_EVAL = Path(str(find_spec("lm_eval").origin)).parent / "tasks"  # type: ignore[union-attr]
OUT_OF_THE_BOX = ("open_llm", "instruct", "reasoning", "safety")


class Loader(yaml.SafeLoader):
    """Reads task files without running the functions they name."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: str(node.value))


@pytest.fixture(scope="module")
def published() -> dict[str, dict]:
    """Task and group files of lm-eval by name."""
    found = {}
    places = (
        "arc",
        "hellaswag",
        "mmlu/default",
        "truthfulqa",
        "winogrande",
        "gsm8k",
        "ifeval",
        "minerva_math",
        "bbh/cot_fewshot",
    )
    for place in (*places, "toxigen", "bbq", "crows_pairs", "wmdp"):
        for path in sorted((LM_EVAL / place).glob("*.yaml")):
            task = yaml.load(path.read_text(), Loader)
            if isinstance(task, dict) and (name := task.get("task") or task.get("group")) and isinstance(name, str):
                found[name] = (
                    yaml.load((path.parent / task["include"]).read_text(), Loader) if "include" in task else {}
                ) | task
            elif isinstance(task, dict) and "group" in task:
                found[task["group"]] = task
    return found


@pytest.mark.parametrize("suite", OUT_OF_THE_BOX)
def test_a_suite_names_tasks_that_lm_eval_has_and_a_metric_of_each(suite, published):
    found = yaml.safe_load((CONF / f"{suite}.yaml").read_text())
    assert set(found["headline"]) == set(found["tasks"])
    for task, metric in found["headline"].items():
        described = published[task]
        if "group" in described and isinstance(described.get("task"), list):
            metrics = described["aggregate_metric_list"]
        else:
            metrics = described.get(
                "metric_list", [{"metric": "acc"}, {"metric": "acc_norm"}]
            )  # the default of multiple choice
        assert metric in {entry["metric"] for entry in metrics}, task


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_suite_is_named_after_its_file_and_has_a_headline_for_each_task(path):
    found = yaml.safe_load(path.read_text())
    if "defaults" not in found:
        assert found["name"] == path.stem
        assert set(found["headline"]) == set(found["tasks"])
