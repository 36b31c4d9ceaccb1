"""The only door to Hydra and OmegaConf: overrides in, planned cells out."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from polm_bench.budget import Budget
from polm_bench.data.source import DataSource
from polm_bench.errors import BadBudget, BadOverride, PolmError, UnknownName
from polm_bench.graph import KEY_LENGTH, Stage, identity, ordered
from polm_bench.models import Model
from polm_bench.paths import conf_dir
from polm_bench.recipes import Context, Graph, Recipe
from polm_bench.recipes.probe import Probe
from polm_bench.run.launch import Launch
from polm_bench.settings import COMMAND_LINE, GROUPS, options, settings
from polm_bench.settings import origins as origins_of
from polm_bench.stages import Evaluate, Suite

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")

IDENTITY = ("recipe", "model", "data", "budget", "suite")


@dataclass(frozen=True)
class Plan:
    """A cell with its graph; nothing has run yet."""

    names: dict[str, str]  # what was chosen in each group
    seed: int
    model: Model
    data: DataSource
    budget: Budget
    suite: Suite
    launch: Launch
    track: str
    recipe: Recipe
    context: Context
    graph: Graph
    evaluations: dict[str, Stage]  # rows: base, start (where there is one), self (where the suite can judge it)
    config: dict[str, Any]
    origins: dict[str, str]
    overrides: tuple[str, ...]
    search: dict[str, Any] | None = None  # what the recipe says of its tuning; part of no stage

    @cached_property
    def record_id(self) -> str:
        judges = {**self.evaluations, **{f"{row} probe": stage for row, stage in self.graph.probes.items()}}
        keys = "".join(f"{row}:{stage.key}" for row, stage in sorted(judges.items()))
        digest = hashlib.sha256(keys.encode()).hexdigest()[:KEY_LENGTH]
        return "-".join([*(_slug(self.names[group]) for group in IDENTITY), f"s{self.seed}", digest])

    def stages(self) -> list[Stage]:
        """All stages, inputs before what reads them."""
        return ordered(*self.goals())

    def goals(self) -> list[Stage]:
        """What the record is made of: the evaluations and the recipe's own probes."""
        return [*self.evaluations.values(), *self.graph.probes.values()]

    def folders(self) -> dict[str, Path]:
        """Where the base model's files lie on this machine before it is fetched, by the key of its stage; empty where they don't."""
        from polm_bench.models.fetch import present

        folder = present(self.model)
        return {self.context.base.key: folder} if folder else {}

    def cell(self) -> dict[str, Any]:
        """The record's `cell`."""
        return {
            **{group: self.names[group] for group in IDENTITY},
            "seed": self.seed,
            "config": self.config,
            "origins": self.origins,
        }

    def recipe_facts(self) -> dict[str, Any]:
        """The record's `recipe`."""
        facts = asdict(self.recipe.meta)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}

    def contamination(
        self, cache: Path, scores: Sequence[Mapping[str, Any]], items: Mapping[str, Path]
    ) -> dict[str, Any]:
        """The record's `contamination`: items of the suite that the model's training rows hold, and the rows' scores without them.

        `items` maps the rows of the record to the parquet files of their items; `cache` keeps what was looked up.
        """
        from polm_bench.data import gate

        told = gate.contamination(self.evaluations.get("self", self.graph.model), self.suite, cache)
        clean = [one for row, path in items.items() for one in gate.clean_scores(told, row, scores, path)]
        return told | {"clean": clean}

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values: the cell, and each stage with its key, identity and inputs."""
        return {
            "id": self.record_id,
            "cell": {**{group: self.names[group] for group in IDENTITY}, "seed": self.seed},
            "rows": {row: stage.key for row, stage in self.evaluations.items()},
            "stages": [
                {
                    "kind": type(stage).__name__,
                    "key": stage.key,
                    "inputs": [i.key for i in stage.inputs],
                    "identity": identity(stage),
                }
                for stage in self.stages()
            ],
        }


def plan(overrides: Sequence[str]) -> Plan:
    """The cell that the overrides describe.

    Raises UnknownName, BadOverride, MissingRole, BadData, BadModel, BadBudget.
    """
    from hydra import compose, initialize_config_dir

    words = _recipe_with_plus(overrides)
    with _Translated(words), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("run", overrides=words, return_hydra_config=True)
    return _plan(composed, composed.hydra.runtime.choices, words)


def cells(argv: Sequence[str]) -> list[Plan]:
    """The cells that Hydra makes of a command line (overrides, -m, --cfg, --config-dir ...), all planned before the first one runs.

    Raises what `plan` raises, and BadOverride for a launcher of Hydra's: it would plan where nobody hears of the mistakes.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig

    words = _recipe_with_plus(argv)
    if given := next((word for word in words if word.startswith("hydra/launcher=")), None):
        raise BadOverride(f"{given}: cells are given to other processes by launch=joblib, launch=ray or launch=slurm")
    planned: list[Plan] = []
    mistakes: list[PolmError] = []

    def job(composed: DictConfig) -> None:
        settings = HydraConfig.get()
        try:
            if not mistakes:
                planned.append(_plan(composed, settings.runtime.choices, list(settings.overrides.task)))
        except PolmError as mistake:  # Hydra would print lines of its own about what a job raises
            mistakes.append(mistake)

    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["polm-bench", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing and exiting: the messages are ours
    try:
        with _Translated(words):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="run")(job)()
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]
    if mistakes:
        raise mistakes[0]
    return planned


def _recipe_with_plus(words: Sequence[str]) -> list[str]:
    """`recipe=dpo` means `+recipe=dpo`: the group has no default to replace."""
    return [f"+{word}" if word.startswith("recipe=") else word for word in words]


def again(cell: Mapping[str, Any]) -> Plan:
    """The plan of a record's `cell`, as today's code reads the configuration that the record keeps. Raises what `plan` raises."""
    names = {group: str(cell[group]) for group in IDENTITY}
    return _planned(dict(cell["config"]), names, cell.get("origins", {}), (), remember=True)


def _plan(composed: DictConfig, choices: Mapping[str, Any], overrides: Sequence[str]) -> Plan:
    config = _resolved(composed)
    search = config["recipe"].pop("search", None) if isinstance(config["recipe"], dict) else None
    names = _chosen(choices)
    origins = dict(origins_of(config, names, overrides))
    for group in ("model", "data"):  # what is taken from elsewhere must not go by the group value's name
        if origins.get(f"{group}.path") == COMMAND_LINE:
            path = Path(str(config[group]["path"]))
            names[group] = path.name if group == "model" else path.stem  # Llama-3.2-1B has no suffix, rows.jsonl has
    return _planned(config, names, origins, overrides, search)


def _planned(
    config: dict[str, Any],
    names: dict[str, str],
    origins: Mapping[str, str],
    overrides: Sequence[str],
    search: dict[str, Any] | None = None,
    remember: bool = False,
) -> Plan:
    def made(group: str, kind: type[T]) -> T:
        if remember:  # the cells of a table differ in little
            anything: Any = kind
            known: T = _remembered(group, json.dumps(config[group], sort_keys=True), anything)
            return known
        return _made(config, group, kind)

    seed = config["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadOverride(f"seed={seed}: a seed is a whole number, 0 or more")
    model = made("model", Model)
    data = made("data", DataSource)
    budget = made("budget", Budget)
    suite = made("suite", Suite).pinned()
    recipe = made("recipe", Recipe)
    base = model.fetch()
    context = Context(
        recipe=names["recipe"],
        base=base,
        data=data,
        budget=budget,
        seed=seed,
        lr_scale=model.lr_scale,
        adapter_lr_scale=model.adapter_lr_scale,
    )
    graph = recipe.plan(context)
    if "probe" in config:
        graph = made("probe", Probe).attach(graph, context)
    return Plan(
        names=names,
        seed=seed,
        model=model,
        data=data,
        budget=budget,
        suite=suite,
        launch=made("launch", Launch),
        track=str(config["track"]["name"]),
        recipe=recipe,
        context=context,
        graph=graph,
        evaluations=_evaluations(base, graph, suite),
        config=config,
        origins=dict(origins),
        overrides=tuple(overrides),
        search=search,
    )


def _resolved(composed: DictConfig) -> dict[str, Any]:
    """The composed configuration as plain values. Raises BadOverride where a part is missing or refers to none."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(composed):
        composed.pop("hydra", None)
    unknown = [str(name) for name in composed if name not in (*GROUPS, "seed", "probe")]
    if "recipe" not in composed and not unknown:
        raise BadOverride(
            "no recipe chosen. Say which with +recipe=NAME, as +recipe=dpo; `polm-bench ls recipes` lists them."
        )
    try:
        config = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:  # such as ${a.name} that there is not
        raise BadOverride(f"{error.full_key or 'the configuration'}: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise BadOverride("the configuration is not a mapping")
    if unknown:
        raise BadOverride(
            f"'+{unknown[0]}': there is no setting '{unknown[0]}'. Groups: {', '.join(GROUPS)}; and seed."
        )
    return {str(name): value for name, value in config.items()}


def _chosen(choices: Mapping[str, Any]) -> dict[str, str]:
    """What was chosen in each group. Raises UnknownName for a path, which Hydra would follow out of the group's folder."""
    names = {group: str(choices[group]) for group in GROUPS}
    for group, name in names.items():
        if Path(name).name != name:
            raise UnknownName(group, name, options(group))
    return names


def _evaluations(base: Stage, graph: Graph, suite: Suite) -> dict[str, Stage]:
    """Row -> the stage that judges it by the suite: the base, the start where there is one, and the model itself where the suite can."""
    found: dict[str, Stage] = {"base": Evaluate(model=base, suite=suite)}
    if graph.start is not None:
        found["start"] = Evaluate(model=graph.start, suite=suite)
    if graph.judged:
        found["self"] = Evaluate(model=graph.model, suite=suite, decoder=graph.decoder)
    return found


def _made(config: dict[Any, Any], group: str, kind: type[T]) -> T:
    """The value that a group's `_target_` makes; every mistake in it named by its setting."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from pydantic import ValidationError

    try:
        value = instantiate(config[group], _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ValidationError | PolmError):
            cause = cause.__cause__
        if isinstance(cause, PolmError):
            raise cause from error
        if isinstance(cause, ValidationError):
            inner = re.search(r"full_key: (\S+)", str(error))
            raise _invalid(f"{group}.{inner[1]}" if inner else group, cause) from error
        raise BadOverride(f"{group}: {str(error).strip()}") from error
    if not isinstance(value, kind):
        raise BadOverride(f"{group}: _target_ makes a {type(value).__name__}, not a {kind.__name__}")
    return value


@lru_cache(maxsize=512)
def _remembered(group: str, text: str, kind: Any) -> Any:
    """`_made` of a group's JSON, once a process."""
    return _made({group: json.loads(text)}, group, kind)


def _invalid(place: str, error: Any) -> PolmError:
    """The first wrong setting of a pydantic error, by the name the user writes."""
    first = error.errors()[0]
    group = place.partition(".")[0]
    name = ".".join([place, *(str(part) for part in first["loc"])])
    given = first.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    kind = BadBudget if group == "budget" else BadOverride
    return kind(
        f"{name}: {first['msg'].removeprefix('Value error, ')}{shown}. Look at conf/{group}/ for what it takes."
    )


class _Translated:
    """Turns Hydra's errors into ours."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        from hydra.errors import HydraException, MissingConfigException
        from omegaconf.errors import OmegaConfBaseException

        if isinstance(error, PolmError) or error is None:
            return
        if isinstance(error, MissingConfigException) and error.missing_cfg_file:
            group, _, name = str(error.missing_cfg_file).rpartition("/")
            raise UnknownName(group or "configuration", name, options(group) if group else []) from error
        a_number_for_a_name = isinstance(error, ValueError) and "Config group override" in str(error)
        if a_number_for_a_name:
            for word in self.words:
                group, _, name = word.lstrip("+").partition("=")
                if group in GROUPS and name not in options(group):
                    raise UnknownName(group, name, options(group)) from error
        if isinstance(error, HydraException | OmegaConfBaseException) or a_number_for_a_name:
            raise BadOverride(self._explain(error)) from error

    def _explain(self, error: BaseException) -> str:
        cause = error.__cause__ or error
        text = " ".join(f"{error}".split())
        if "requires --multirun" in text or text.startswith("Ambiguous value for argument"):
            words = " or ".join(f"'{word}'" for word in self.words if word in text)
            return f"{words} gives several values, which is a sweep: polm-bench run -m ... makes a cell of each."
        for word in self.words:
            name, equals, _ = word.lstrip("+~").partition("=")
            if "/" in name and not equals:  # the value of an option of Hydra's
                continue
            if f"'{name}'" in text or f"Key '{name.rpartition('.')[2]}'" in f"{text} {cause}":
                known = set(settings(self.words))
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
                meant = [] if equals else _choices(name)
                hint = (
                    f"Did you mean {' or '.join(meant or near)}?"
                    if meant or near
                    else f"Groups: {', '.join(GROUPS)}; see 'polm-bench plan --help'."
                )
                return f"'{word}': there is no setting '{name}'. {hint}"
        wrong = getattr(error, "override", None)
        return f"'{wrong}': {text.split(' See https')[0]}" if wrong else text


def _choices(name: str) -> list[str]:
    """The overrides that choose a value of this name, as `+recipe=dpo` for `dpo`."""
    return [f"{'+' if group == 'recipe' else ''}{group}={name}" for group in GROUPS if name in options(group)]


def _slug(name: str) -> str:
    return name.replace("-", "_").replace("/", "_")
