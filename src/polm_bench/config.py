"""The only door to Hydra and OmegaConf: overrides in, planned cells out."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from polm_bench.budget import Budget
from polm_bench.cell import IDENTITY, Plan, evaluations_of
from polm_bench.data.source import DataSource
from polm_bench.errors import BadOverride, PolmError, UnknownName
from polm_bench.mistakes import invalid, no_usage, translated
from polm_bench.models import Model
from polm_bench.paths import conf_dir
from polm_bench.recipes import Context, Recipe
from polm_bench.recipes.probe import Probe
from polm_bench.run.launch import Launch
from polm_bench.settings import COMMAND_LINE, GROUPS, SWEEP, options
from polm_bench.settings import origins as origins_of
from polm_bench.stages import Suite

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")

SEEDS = 2**32  # numpy takes no larger one


class Make(Protocol):
    """Makes the value that a group's `_target_` says."""

    def __call__(self, config: dict[Any, Any], group: str, kind: type[T]) -> T: ...


def plan(overrides: Sequence[str]) -> Plan:
    """The cell that the overrides describe.

    Raises UnknownName, BadOverride, MissingRole, BadData, BadModel, BadBudget.
    """
    from hydra import initialize_config_dir

    words = _checked(overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return _composed(words, words)


def cells(argv: Sequence[str]) -> list[Plan]:
    """The cells that Hydra makes of a command line (overrides, -m, --cfg, --config-dir ...), all planned before the first one runs.

    Raises what `plan` raises, of all cells the first mistake.
    """
    words = _checked(argv)
    overrides = [word for word in words if word not in SWEEP]
    if len(overrides) == len(words) or any(word.startswith(("-", "hydra/", "hydra.")) for word in overrides):
        planned = _by_hydra(words)
    else:
        planned = _swept(overrides)
    if not planned and (pattern := next((word for word in words if "glob(" in word), None)):
        raise BadOverride(f"'{pattern}': no name matches, so there is no cell. `polm-bench ls` lists the names.")
    return planned


def _composed(overrides: Sequence[str], words: Sequence[str]) -> Plan:
    """The cell of these overrides, which the user gave as `words`; Hydra has to be initialised."""
    from hydra import compose

    with translated(words):
        composed = compose("run", overrides=list(overrides), return_hydra_config=True)
    return _plan(composed, composed.hydra.runtime.choices, overrides)


def _swept(words: Sequence[str]) -> list[Plan]:
    """A cell of each combination of the values. Hydra's own sweep composes every cell twice and copies it four times."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        values: dict[str, list[str]] = {}
        with translated(words):
            loader = GlobalHydra.instance().config_loader()
            for one in OverridesParser.create(config_loader=loader).parse_overrides(list(words)):
                key = one.get_key_element()
                if one.is_interval_sweep():
                    raise BadOverride(
                        f"'{one.input_line}': a sweep takes single values, as {key}=A,B or {key}=range(0,3)."
                    )
                given = one.sweep_string_iterator() if one.is_sweep_override() else [one.get_value_element_as_str()]
                values[key] = [f"{key}={value}" for value in given]
        return [_composed(overrides, words) for overrides in itertools.product(*values.values())]


def _by_hydra(words: Sequence[str]) -> list[Plan]:
    """The cells of a command line with options of Hydra's; none where these only print."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    planned: list[Plan] = []
    mistakes: list[PolmError] = []

    def job(composed: DictConfig) -> None:
        settings = HydraConfig.get()
        try:
            if not mistakes:
                planned.append(_plan(composed, settings.runtime.choices, list(settings.overrides.task)))
        except PolmError as mistake:  # Hydra would print lines of its own about what a job raises
            mistakes.append(mistake)

    with _typed(words), translated(words), no_usage():
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="run")(job)()
    if mistakes:
        raise mistakes[0]
    return planned


@contextmanager
def _typed(words: Sequence[str]) -> Iterator[None]:
    """While it lasts, Hydra finds these words on the command line, raises its errors, and writes of a sweep where it is forgotten."""
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing and exiting: the messages are ours
    try:
        with TemporaryDirectory(prefix="polm-sweep-") as folder:
            sweep, rest = [[word for word in words if (word in SWEEP) is wanted] for wanted in (True, False)]
            place = next(
                (at for at, word in enumerate(rest) if "=" in word), len(rest)
            )  # overrides must stand together
            sys.argv = ["polm-bench", *sweep, *rest[:place], f"hydra.sweep.dir='{folder}'", *rest[place:]]
            yield
    finally:
        sys.argv = before[0]
        if before[1] is None:
            del os.environ["HYDRA_FULL_ERROR"]


def _checked(words: Sequence[str]) -> list[str]:
    """`recipe=dpo` means `+recipe=dpo`: the group has no default to replace. Raises BadOverride for what Hydra would do and a cell can't."""
    for word in words:
        name = word.lstrip("+~").partition("=")[0]
        if word.startswith("~") and name in (*GROUPS, "seed"):
            raise BadOverride(f"'{word}': a cell has a value of each group, and a seed. Choose another one: {name}=...")
        if name == "hydra/launcher":
            raise BadOverride(
                f"'{word}': cells are given to other processes by launch=joblib, launch=ray or launch=slurm."
            )
        if name.startswith(("hydra.run.", "hydra.sweep.", "hydra.output_subdir", "hydra.job.chdir")):
            raise BadOverride(f"'{word}': Hydra writes nothing here. Stages and records lie under POLM_HOME: set that.")
    return [f"+{word}" if word.startswith("recipe=") else word for word in words]


def again(cell: Mapping[str, Any]) -> Plan:
    """The plan of a record's `cell`, as today's code reads the configuration that the record keeps. Raises what `plan` raises."""
    names = {group: str(cell[group]) for group in IDENTITY}
    return _planned(dict(cell["config"]), names, cell.get("origins", {}), (), make=_remembered)


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
    """What was chosen in each group.

    Raises BadOverride for a value in the place of a name, and UnknownName for a shared base, and for a path, which Hydra would follow out of the
    group's folder.
    """
    if nameless := next((group for group in GROUPS if group not in choices), None):
        raise BadOverride(f"{nameless} takes a name of its values, as +recipe=dpo. `polm-bench ls` lists them.")
    names = {group: str(choices[group]) for group in GROUPS}
    for group, name in names.items():
        if Path(name).name != name or name.startswith("_"):
            raise UnknownName(group, name, options(group))
    return names


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
            raise invalid(f"{group}.{inner[1]}" if inner else group, cause) from error
        raise BadOverride(f"{group}: {' '.join(str(error).split())}") from error
    if not isinstance(value, kind):
        raise BadOverride(f"{group}: _target_ makes a {type(value).__name__}, not a {kind.__name__}")
    return value


def _remembered(config: dict[Any, Any], group: str, kind: type[T]) -> T:
    """The same, once a process: the cells of a table differ in little."""
    anything: Any = kind
    known: T = _of_text(group, json.dumps(config[group], sort_keys=True), anything)
    return known


@lru_cache(maxsize=512)
def _of_text(group: str, text: str, kind: Any) -> Any:
    return _made({group: json.loads(text)}, group, kind)


def _seed(config: Mapping[str, Any]) -> int:
    seed = config["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
        raise BadOverride(f"seed={seed}: a seed is a whole number from 0 to {SEEDS - 1}")
    return seed


def _planned(
    config: dict[str, Any],
    names: dict[str, str],
    origins: Mapping[str, str],
    overrides: Sequence[str],
    search: dict[str, Any] | None = None,
    make: Make = _made,
) -> Plan:
    seed = _seed(config)
    model = make(config, "model", Model)
    data = make(config, "data", DataSource)
    budget = make(config, "budget", Budget)
    suite = make(config, "suite", Suite).pinned()
    recipe = make(config, "recipe", Recipe)
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
        graph = make(config, "probe", Probe).attach(graph, context)
    return Plan(
        names=names,
        seed=seed,
        model=model,
        data=data,
        budget=budget,
        suite=suite,
        launch=make(config, "launch", Launch),
        track=str(config["track"]["name"]),
        recipe=recipe,
        context=context,
        graph=graph,
        evaluations=evaluations_of(base, graph, suite),
        config=config,
        origins=dict(origins),
        overrides=tuple(overrides),
        search=search,
    )
