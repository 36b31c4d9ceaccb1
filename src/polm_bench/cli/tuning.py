"""`tune`: trials of a recipe's settings, chosen on validation rows, tested once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from polm_bench.cli.cells import print_record
from polm_bench.cli.printing import only_ours_on_stdout, print_json, print_rows, tell
from polm_bench.cli.sweep import Swept, sweep
from polm_bench.errors import BadOverride, PolmError, StoreError
from polm_bench.paths import home
from polm_bench.report.words import setting_text
from polm_bench.settings import SWEEP, composed, file_of
from polm_bench.settings import options as values

if TYPE_CHECKING:
    from polm_bench.tune.study import Options, Study, Trial


def tune(words: Sequence[str], as_json: bool) -> int:
    """Run the trials that are missing, test the best one, write its record; 1 where every trial failed, or the test did."""
    from polm_bench.report.records import read

    with only_ours_on_stdout(as_json) as out:
        study, trials, path = tuned(words)
        if as_json:
            record = read(path).data if path else None
            print_json({"study": study.name, "tried": [one._asdict() for one in trials], "record": record}, out)
        else:
            _print(trials, study)
            if path:
                print_record(read(path))
    return 0 if path and read(path).status == "ok" else 1


def tuned(words: Sequence[str]) -> tuple[Study, list[Trial], Path | None]:
    """The study of a command line, its trials, and the record of the best one (None where all failed)."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars run into ours; read when they are imported
    from polm_bench.run.progress import reporter
    from polm_bench.run.track import track
    from polm_bench.tune.result import record_best
    from polm_bench.tune.study import Study
    from polm_bench.tune.track import track_trials

    if swept := [word for word in words if word in SWEEP]:
        raise BadOverride(f"'{swept[0]}': tune takes one cell. Tune each seed or recipe by a command of its own.")
    rest, options = split(words)
    study = Study(rest, options, home())

    def told(trial: Trial) -> None:
        value = "" if trial.value is None else f", validation {trial.value:.4f}"
        tell(f"trial {trial.number + 1} of {options.trials}: {setting_text(trial.settings)}: {trial.status}{value}")

    trials = study.run(reporter, told)
    shown = reporter()
    try:
        path = record_best(study, trials, shown)
    finally:
        shown.close()
    if path and study.plan.track == "mlflow":
        track(path, study.home)
        track_trials(path, study.home)
    return study, trials, path


def tune_cells(cells: Sequence[Sequence[str]], trials: int, jobs: int) -> Swept:
    """Cells of a table: those whose recipe declares a search are tuned, in turn; the others are run, `jobs` at a time."""
    recipes = {_recipe(cell) for cell in cells} & {*values("recipe")}
    searching = {name for name in recipes if "search" in composed(file_of("recipe", name))}
    searched = [cell for cell in cells if _recipe(cell) in searching]
    swept = sweep([cell for cell in cells if cell not in searched], jobs)
    for number, cell in enumerate(searched, 1):
        tell(f"tuning {number} of {len(searched)}: {' '.join(cell)}")
        try:
            path = tuned([*cell, f"tune.trials={trials}"])[2]
        except StoreError:
            raise
        except PolmError as mistake:
            swept.mistakes.append(f"{' '.join(cell)}: {mistake}")
            continue
        if path is None:
            swept.mistakes.append(f"{' '.join(cell)}: every trial failed")
        else:
            swept.records.append(path)
    return swept


def _recipe(cell: Sequence[str]) -> str:
    return cell[0].removeprefix("+recipe=")  # a table's cells begin with it


def split(words: Sequence[str]) -> tuple[list[str], Options]:
    """Hydra's overrides, and the options of tuning among them. Raises BadOverride for a wrong one."""
    from polm_bench.tune.study import Options, Sampler

    rest, found = [], dict[str, Any]()
    for word in words:
        name, _, value = word.lstrip("+").partition("=")
        if not name.startswith("tune."):
            rest.append(word)
            continue
        option = name.removeprefix("tune.")
        if option in ("trials", "seed") and value.isdigit() and int(value) >= (option == "trials"):
            found[option] = int(value)
        elif option == "sampler" and value in get_args(Sampler):
            found[option] = value
        else:
            raise BadOverride(
                f"'{word}': tuning takes tune.trials=N (8), tune.sampler={'|'.join(get_args(Sampler))} (tpe) and tune.seed=N (0)."
            )
    return rest, Options(**found)


def _print(trials: Sequence[Trial], study: Study) -> None:
    from polm_bench.tune.study import best_of

    best = best_of(trials)
    rows = [
        {
            "trial": str(one.number + 1),
            "settings": setting_text(one.settings),
            "validation": "" if one.value is None else f"{one.value:.4f}",
            "status": one.status + (" (chosen)" if best and one.number == best.number else ""),
            "seconds": f"{one.seconds:.1f}",
        }
        for one in trials
    ]
    print_rows(rows, list(rows[0]), title=f"{study.name}: {study.search.by} on validation rows, higher is better")
