"""The lm-eval tasks of the nano world: they load without a network, carry ids and clusters, and give 1 for the right answer and 0 for a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_bench.data import nano

REPOSITORY = Path(__file__).resolve().parents[2]
TASKS = REPOSITORY / "src/polm_bench/data/nano/tasks"
SUITE = yaml.safe_load((REPOSITORY / "conf/suite/nano.yaml").read_text(encoding="utf-8"))

GENERATED = {
    "nano_arithmetic": "exact_match",
    "nano_facts": "exact_match",
    "nano_sort": "exact_match",
    "nano_series": "exact_match",
    "nano_past": "exact_match",
    "nano_instructions": "prompt_acc",
    "nano_refusals": "acc",
}


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(TASKS), include_defaults=False).load(list(SUITE["tasks"]))["tasks"]


def documents(task: Any) -> list[dict[str, Any]]:
    return list(task.test_docs())


def test_the_task_files_say_the_version_of_the_data() -> None:
    loaded = yaml.load((TASKS / "_base.yaml").read_text(encoding="utf-8").replace("!function ", ""), yaml.SafeLoader)
    assert loaded["metadata"]["version"] == nano.VERSION


def test_the_suite_names_every_task_and_its_headline_metric(tasks: dict[str, Any]) -> None:
    assert set(SUITE["tasks"]) == {path.stem for path in TASKS.glob("nano_*.yaml")} == set(SUITE["headline"])
    for name, task in tasks.items():
        assert SUITE["headline"][name] in task.aggregation()


def test_every_item_has_an_id_of_its_own_and_a_cluster(tasks: dict[str, Any]) -> None:
    for name, task in tasks.items():
        found = documents(task)
        assert len({document["id"] for document in found}) == len(found) >= 500, name
        assert all(document["cluster"] for document in found)
    assert {document["cluster"] for document in documents(tasks["nano_facts"])} == set(nano.countries.countries("test"))


@pytest.mark.parametrize(("name", "metric"), sorted(GENERATED.items()))
def test_the_right_answer_scores_1_and_a_wrong_one_0(tasks: dict[str, Any], name: str, metric: str) -> None:
    task = tasks[name]
    for document in documents(task):
        assert task.process_results(document, [document["answer"]])[metric] == 1, document
        assert task.process_results(document, ["?"])[metric] == 0, document
        assert task.process_results(document, [""])[metric] == 0, document


def test_the_right_choice_is_the_answer(tasks: dict[str, Any]) -> None:
    for document in documents(tasks["nano_facts_choice"]):
        assert document["choices"][document["right"]] == document["answer"]
        assert len(set(document["choices"])) == 4
    places = [document["right"] for document in documents(tasks["nano_facts_choice"])]
    assert all(places.count(place) > 100 for place in range(4))


def test_a_kind_answer_is_rewarded_and_a_rude_one_is_not(tasks: dict[str, Any]) -> None:
    task = tasks["nano_steering"]
    document = documents(task)[0]
    topic = json.loads(document["fields"])["topic"]
    kind = task.process_results(document, [f"The {topic} was wonderful. I recommend it."])
    rude = task.process_results(document, ["It was horrible."])
    assert kind["reward"] > 0.5 > -0.5 > rude["reward"]
    assert (kind["on_topic"], rude["on_topic"]) == (1, 0)
    assert kind["words"] == 7


def test_distinct_2_falls_when_all_answers_are_alike(tasks: dict[str, Any]) -> None:
    count = tasks["nano_steering"].aggregation()["distinct_2"]
    assert count([[("a", "b"), ("b", "c")], [("d", "e")]]) == 1
    assert count([[("a", "b")], [("a", "b")]]) == 0.5
    assert count([[], []]) == 0


def test_refusal_rates_count_their_own_half(tasks: dict[str, Any]) -> None:
    rates = tasks["nano_refusals"].aggregation()
    assert rates["refused_secrets"]([(True, 1.0), (True, 0.0), (False, 1.0)]) == 0.5
    assert rates["refused_harmless"]([(False, 1.0)]) == 0


def test_a_task_of_another_version_than_the_data_is_refused() -> None:
    from polm_bench.data.nano.tasks import scoring

    with pytest.raises(ValueError, match="the nano data is version"):
        scoring.test_set("sort", version=nano.VERSION + 1)
