"""Tuning: the first trial has the recipe's numbers, draws can be repeated, a killed study goes on, the suite is asked once."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import pytest

from polm_bench.cli.app import main
from polm_bench.cli.tuning import split
from polm_bench.config import plan
from polm_bench.errors import BadOverride
from polm_bench.report.choose import Cells
from polm_bench.report.records import load
from polm_bench.run.progress import SilentReporter
from polm_bench.tune.curve import best_after
from polm_bench.tune.space import search_of
from polm_bench.tune.study import Options, Study, Trial, best_of
from polm_bench.tune.validate import validator

SMOKE = ["budget=smoke", "suite=smoke"]


def trial(number: int, value: float | None, second: float = 0.0, **changes) -> Trial:
    found = {"number": number, "settings": {}, "status": "ok", "value": value, "second": second, "seconds": 1.0}
    return Trial(**{**found, "reason": None, **changes})


def pretend(study: Study, value=lambda settings: -abs(math.log10(settings["optim.lr"]) + 6.5)):
    """The study with a known function of the settings in place of training: what is tested here is which trials it runs."""
    study._trial = lambda number, settings, shown: trial(number, value(settings), settings=settings)
    return study


def run(study: Study) -> list[Trial]:
    return study.run(SilentReporter, lambda told: None)


def settings_of(trials: list[Trial]) -> list[dict]:
    return [one.settings for one in trials]


def test_the_expected_best_of_k_is_the_mean_of_one_and_the_best_of_all_draws():
    curve = best_after([1.0, 3.0, 2.0])
    assert [one.best for one in curve] == [1.0, 3.0, 3.0]
    assert curve[0].expected == pytest.approx(2.0)
    assert curve[0].spread == pytest.approx(math.sqrt(2 / 3))
    assert curve[1].expected == pytest.approx(
        (1 * 1 + 2 * 3 + 3 * 5) / 9
    )  # of 9 pairs one has 1 as its best, three 2, five 3


def test_a_failed_trial_counts_as_the_worst_that_was_seen():
    assert best_after([None, 2.0])[0].best is None
    assert best_after([None, 2.0])[0].expected == 2.0
    assert best_after([None])[0].expected is None


def test_equal_trials_are_decided_by_the_second_figure_then_by_who_came_first():
    assert best_of([trial(0, 1.0, -3.0), trial(1, 1.0, -2.0), trial(2, 0.5, 0.0), trial(3, None)]).number == 1
    assert best_of([trial(0, 1.0), trial(1, 1.0)]).number == 0
    assert best_of([trial(0, None)]) is None


@pytest.mark.parametrize("recipe", ["sft", "lora", "dpo", "simpo", "kto", "grpo"])
def test_a_declared_search_holds_the_recipes_own_numbers_and_changes_no_key(recipe, home):
    study = Study([f"+recipe={recipe}"], Options(), home)
    assert settings_of(run(pretend(study)))[0] == study.defaults
    golden = json.loads(Path(__file__).parents[1].joinpath("golden_keys.json").read_text())
    assert study.plan.graph.model.key == golden[recipe]["model"]
    assert "search" not in study.plan.config["recipe"]


def test_the_same_seed_draws_the_same_trials_and_another_seed_others(home, tmp_path):
    first = settings_of(run(pretend(Study(["+recipe=dpo"], Options(trials=6), home))))
    again = settings_of(run(pretend(Study(["+recipe=dpo"], Options(trials=6), tmp_path / "again"))))
    other = settings_of(run(pretend(Study(["+recipe=dpo"], Options(trials=6, seed=1), tmp_path / "other"))))
    assert first == again
    assert first[1:] != other[1:]


def test_a_study_killed_in_a_trial_goes_on_with_the_same_trial_and_ends_as_if_it_had_not_been(home, tmp_path):
    whole = settings_of(run(pretend(Study(["+recipe=dpo"], Options(trials=6), tmp_path / "whole"))))
    study = pretend(Study(["+recipe=dpo"], Options(trials=6), home))
    real = study._trial

    def killed(number, settings, shown):
        if number == 3:
            raise KeyboardInterrupt
        return real(number, settings, shown)

    study._trial = killed
    with pytest.raises(KeyboardInterrupt):
        run(study)
    resumed = pretend(Study(["+recipe=dpo"], Options(trials=6), home))
    told: list[Trial] = []
    trials = resumed.run(SilentReporter, told.append)
    assert [one.number for one in told] == [3, 4, 5]
    assert settings_of(trials) == whole


def test_more_trials_are_added_to_those_that_are_there(home):
    run(pretend(Study(["+recipe=dpo"], Options(trials=2, sampler="random"), home)))
    told: list[Trial] = []
    pretend(Study(["+recipe=dpo"], Options(trials=4, sampler="random"), home)).run(SilentReporter, told.append)
    assert [one.number for one in told] == [2, 3]


def test_a_trial_that_fails_counts_and_is_not_chosen(home):
    def value(settings):
        return None if settings["optim.lr"] == 1e-6 else 1.0

    trials = run(pretend(Study(["+recipe=dpo"], Options(trials=3), home), value))
    assert len(trials) == 3
    assert trials[0].value is None
    assert best_of(trials).number == 1


def test_a_grid_visits_every_combination_of_choices_once(home):
    study = Study(["+recipe=dpo"], Options(trials=3, sampler="grid"), home)
    object.__setattr__(
        study, "search", search_of({"by": "pairs", "space": {"loss.beta": {"choices": [0.01, 0.05, 0.1]}}}, "dpo")
    )
    study.defaults = {"loss.beta": 0.1}
    trials = run(pretend(study, lambda settings: settings["loss.beta"]))
    assert sorted(one.settings["loss.beta"] for one in trials) == [0.01, 0.05, 0.1]


def test_a_grid_over_a_range_is_refused(home):
    with pytest.raises(BadOverride, match=r"optim\.lr has a range"):
        run(pretend(Study(["+recipe=dpo"], Options(sampler="grid"), home)))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (None, "declares no search"),
        ({"by": "suite", "space": {"optim.lr": {"low": 1.0, "high": 2.0}}}, "by"),
        ({"by": "pairs", "space": {"optim.lr": {"low": 2.0, "high": 1.0}}}, "low below a high"),
        ({"by": "pairs", "space": {"optim.lr": {"low": 0.0, "high": 1.0, "log": True}}}, "above zero"),
        ({"by": "pairs", "space": {"optim.lr": {"choices": []}}}, "at least one"),
    ],
)
def test_a_wrong_search_is_told_by_its_setting(declared, said):
    with pytest.raises(BadOverride, match=said):
        search_of(declared, "dpo")


def test_words_of_tuning_are_told_from_words_of_the_cell():
    rest, found = split(["+recipe=dpo", "tune.trials=3", "tune.sampler=random", "seed=1"])
    assert rest == ["+recipe=dpo", "seed=1"]
    assert found == Options(trials=3, sampler="random")
    for wrong in ("tune.trials=0", "tune.sampler=x", "tune.trail=3"):
        with pytest.raises(BadOverride, match=r"tune\.trials=N"):
            split([wrong])


def test_a_recipe_without_a_search_is_the_users_mistake(home, capfd):
    assert main(["tune", "+recipe=ties"]) == 2
    assert "declares no search space" in capfd.readouterr().err


def test_a_validator_reads_the_model_and_nothing_else():
    found = plan(["+recipe=dpo"])
    for by in ("completions", "pairs", "checked"):
        judge = validator(by, found.graph.model, found.context)
        assert judge.inputs == (found.graph.model,)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Tunes a recipe with two trials, once, and gives the words and the home; LoRA's are mirrored in MLflow."""

    @cache
    def tune(recipe: str) -> tuple[list[str], Path]:
        words = ["tune", f"+recipe={recipe}", *SMOKE, "tune.trials=2", "--json"]
        words += [] if recipe == "lora" else ["track=none"]
        home = tmp_path_factory.mktemp(recipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLM_HOME", str(home))
            assert main(words) == 0
        return words, home

    return tune


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lora", "dpo", "grpo"])
def test_tuning_tests_the_best_trial_once_and_records_all(recipe, tuned, monkeypatch, capfd):
    words, home = tuned(recipe)
    monkeypatch.setenv("POLM_HOME", str(home))
    before = {path: path.stat().st_mtime_ns for path in (home / "records").glob("*.json")}
    capfd.readouterr()
    assert main(words) == 0
    told = json.loads(capfd.readouterr().out)["record"]
    assert {path: path.stat().st_mtime_ns for path in (home / "records").glob("*.json")} == before
    assert [one["status"] for one in told["tuning"]["tried"]] == ["ok", "ok"]
    assert told["tuning"]["trials"] == 2
    assert len(list((home / "store").glob("Evaluate-*"))) == len({*told["rows"].values()})
    assert [path.stem for path in (home / "records").glob("*.json")] == [told["id"]]
    record = load(home / "records")[0]
    place = next(iter(Cells([record], trials=2)._found))[0]
    assert Cells([record], trials=2).at(place, recipe, 0) is record
    assert Cells([record]).at(place, recipe, 0) is None


@pytest.mark.slow
def test_trials_stand_in_mlflow_under_one_parent(tuned, monkeypatch):
    from mlflow import MlflowClient

    from polm_bench.run.track import initialise, tracking_uri

    _, home = tuned("lora")
    monkeypatch.setenv("POLM_HOME", str(home))
    client = MlflowClient(tracking_uri=tracking_uri(home))
    runs = client.search_runs([initialise(home)], "tags.`polm.study` != ''")
    parents = [run for run in runs if run.data.tags["polm.kind"] == "tuning"]
    trials = [run for run in runs if run.data.tags["polm.kind"] == "trial"]
    assert len(parents) == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parents[0].info.run_id}
    assert len(trials) == 2
    assert sum(run.data.tags["polm.chosen"] == "true" for run in trials) == 1
    assert all("validation/score" in run.data.metrics for run in trials)
