"""A study: trials of one recipe on one cell, kept by Optuna in a file under the home, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from polm_bench.errors import BadOverride, MissingExtra
from polm_bench.graph import KEY_LENGTH, identity
from polm_bench.tune.space import Dimension, Search, search_of
from polm_bench.tune.validate import scored, validator

if TYPE_CHECKING:
    import optuna

    from polm_bench.run.execute import Outcome
    from polm_bench.run.progress import BarReporter, PlainReporter

Sampler = Literal["tpe", "random", "grid"]
STARTUP = 4  # trials drawn at random before the sampler learns from them; the recipe's own is the first
DIGITS = 3  # significant ones of a drawn number, so that it can be typed again


@dataclass(frozen=True)
class Options:
    """What `tune.` words say."""

    trials: int = 8
    sampler: Sampler = "tpe"
    seed: int = 0  # of the sampler; the trainings have the cell's


class Trial(NamedTuple):
    """One trial as it ended."""

    number: int
    settings: dict[str, Any]  # setting of the recipe -> value
    status: str
    value: float | None  # on validation rows, higher is better
    second: float | None  # what decides between equal values
    seconds: float
    reason: str | None


class Study:
    """Trials of a recipe's search space on one cell."""

    def __init__(self, words: Sequence[str], options: Options, home: Path) -> None:
        """Raises BadOverride where the recipe declares no search, and MissingExtra without Optuna."""
        from importlib.util import find_spec

        from polm_bench.config import plan

        if find_spec("optuna") is None:
            raise MissingExtra("polm-bench tune", "tune")
        self.words, self.options, self.home = tuple(words), options, home
        self.plan = plan(words)
        self.recipe = self.plan.names["recipe"]
        self.search: Search = search_of(self.plan.search, self.recipe)
        self.defaults = {name: _at(self.plan.config["recipe"], name) for name in self.search.space}
        if missing := [name for name, value in self.defaults.items() if value is None]:
            raise BadOverride(f"recipe.search.space: recipe '{self.recipe}' has no setting {', '.join(missing)}.")
        validator(self.search.by, self.plan.graph.model, self.plan.context)  # the data has the rows it reads
        self.name = f"{self.recipe}-{self._digest()}"

    def _digest(self) -> str:
        """Of what the trials are: the untried cell's model, the space, the sampler; not of how many there are to be."""
        told = [
            self.plan.graph.model.key,
            validator(self.search.by, self.plan.graph.model, self.plan.context).key,
            identity(self.search),
            self.options.sampler,
            self.options.seed,
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]

    def run(self, reporter: Callable[[], PlainReporter | BarReporter], tell: Callable[[Trial], None]) -> list[Trial]:
        """Run the trials that the file lacks, in turn; `tell` hears of each that this call runs. All trials, in order."""
        study = self._open()
        for _ in range(2 * self.options.trials):
            left = [trial for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]
            number = left[0].number if left else len(study.get_trials(deepcopy=False))
            if number >= self.options.trials:
                break
            study.sampler = self._sampler(number)
            trial = self._again(study, left[0]) if left else study.ask()
            settings = {name: _suggest(trial, name, one) for name, one in self.search.space.items()}
            shown = reporter()
            try:
                found = self._trial(trial.number, settings, shown)
            finally:
                shown.close()
            self._keep(study, trial, found)
            tell(found)
        return self.trials()

    def trials(self) -> list[Trial]:
        """Finished trials, in order, the first `trials` of them."""
        done = [one for one in self._open().get_trials(deepcopy=False) if one.state.is_finished()]
        return [Trial(**json.loads(one.user_attrs["trial"])) for one in done][: self.options.trials]

    def words_of(self, settings: Mapping[str, Any]) -> list[str]:
        """Overrides of `polm-bench run` for a trial's cell."""
        return [*self.words, *(f"recipe.{name}={_text(value)}" for name, value in settings.items())]

    def _open(self) -> optuna.Study:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = self.home / "tune"
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / f"{self.name}.log")))
        study = optuna.create_study(
            storage=storage, study_name=self.name, direction="maximize", load_if_exists=True, sampler=self._sampler(0)
        )
        if not study.get_trials(deepcopy=False) and all(
            _holds(one, self.defaults[name]) for name, one in self.search.space.items()
        ):
            study.enqueue_trial(dict(self.defaults))  # the recipe's own numbers are the first trial
        return study

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of one trial: its draws depend on the trials before it and its number, so a resumed study goes on as if never stopped."""
        import optuna

        seed = self.options.seed * 10_000 + number
        if self.options.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.options.sampler == "grid":
            if loose := [name for name, one in self.search.space.items() if one.choices is None]:
                raise BadOverride(
                    f"tune.sampler=grid needs choices; {', '.join(loose)} has a range. Use tpe or random."
                )
            grid = {name: list(one.choices or ()) for name, one in self.search.space.items()}
            return optuna.samplers.GridSampler(grid, seed=self.options.seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)

    def _again(self, study: optuna.Study, left: optuna.trial.FrozenTrial) -> optuna.Trial:
        """The trial that a killed process, or a queue, left: with its number and its values."""
        import optuna

        if left.state == optuna.trial.TrialState.WAITING:
            return study.ask()  # takes the first that waits
        return optuna.Trial(study, left._trial_id)

    def _trial(self, number: int, settings: dict[str, Any], reporter: PlainReporter | BarReporter) -> Trial:
        """Train with these settings and score the model on validation rows."""
        from polm_bench.config import plan
        from polm_bench.run.cell import store_of
        from polm_bench.run.execute import execute, perform
        from polm_bench.run.isolate import run_apart

        words = self.words_of(settings)
        planned = plan(words)
        planned.data.prepare()
        store, owner = store_of(self.home), planned.record_id  # so that the best one's are not shared ones
        store.prepare()
        work = partial(run_apart, overrides=planned.overrides) if planned.launch.isolate else perform
        outcomes = execute([planned.graph.model], store, planned.launch, reporter, owner, work)
        judge = validator(self.search.by, planned.graph.model, planned.context)
        if all(one.status == "ok" for one in outcomes):
            outcomes += execute([judge], store, planned.launch, reporter, owner)[-1:]
        failed = next((one for one in outcomes if one.status != "ok"), None)
        seconds = round(sum(one.ledger["wall_seconds"] for one in _made(outcomes)), 3)
        if failed:
            return Trial(number, settings, failed.status, None, None, seconds, failed.reason)
        value, second = scored(self.search.by, store.path(judge))
        return Trial(number, settings, "ok", value, second, seconds, None)

    def _keep(self, study: optuna.Study, trial: optuna.Trial, found: Trial) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("trial", json.dumps(found._asdict()))
        if found.value is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, found.value)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest value; of equal ones the second figure decides, then the first tried."""
    known = [one for one in trials if one.value is not None]
    return max(known, key=lambda one: (one.value, one.second, -one.number)) if known else None


def _made(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What a trial took by itself: fetching the base and what other cells made is left out."""
    return [one for one in outcomes if not one.shared and one.stage.inputs]


def _suggest(trial: optuna.Trial, name: str, one: Dimension) -> Any:
    if one.choices is not None:
        return trial.suggest_categorical(name, list(one.choices))
    if one.low is None or one.high is None:
        raise TypeError(f"{name} has neither choices nor a range")
    drawn = trial.suggest_float(name, one.low, one.high, log=one.log)
    return float(f"{drawn:.{DIGITS}g}")


def _holds(one: Dimension, value: Any) -> bool:
    if one.choices is not None:
        return value in one.choices
    return isinstance(value, int | float) and (one.low or 0) <= value <= (one.high or 0)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _at(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
