"""Mistakes in overrides, which Hydra and pydantic find, told by the words that the user wrote."""

from __future__ import annotations

import difflib
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from polm_bench.errors import BadBudget, BadOverride, PolmError, UnknownName
from polm_bench.settings import GROUPS, known, options

USAGE = 2  # what argparse ends a process with


@contextmanager
def translated(words: Sequence[str]) -> Iterator[None]:
    """Turns Hydra's errors about these words into ours."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if mistake := _mistake(error, words):
            raise mistake from error
        raise


@contextmanager
def no_usage() -> Iterator[None]:
    """Raises BadOverride for an option that Hydra does not take: its parser would print its usage and end the process."""
    heard = io.StringIO()
    try:
        with redirect_stderr(heard):
            yield
    except SystemExit as stop:
        told = " ".join(heard.getvalue().rpartition("error: ")[2].split())
        if stop.code != USAGE:
            raise
        heard = io.StringIO()
        raise BadOverride(_option(told)) from stop
    finally:
        sys.stderr.write(heard.getvalue())


def _option(told: str) -> str:
    unknown = told.removeprefix("unrecognized arguments: ").split() if told.startswith("unrecognized") else []
    if word := next((word for word in unknown if word.startswith("-")), None):
        return (
            f"'{word}': there is no such option. Values are chosen without dashes, as +recipe=dpo or model=nano; "
            "the options are -m, --json and Hydra's own, as --cfg job and --config-dir FOLDER."
        )
    if unknown:
        return f"'{unknown[0]}': overrides stand together, and options before or after all of them."
    return f"{told}. See 'polm-bench run --help'."


def _mistake(error: Exception, words: Sequence[str]) -> PolmError | None:
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        file = str(error.missing_cfg_file)
        group, _, name = file.partition("/") if file.partition("/")[0] in GROUPS else file.rpartition("/")
        return UnknownName(group or "configuration", name, options(group) if group else [])
    if "Config group override" in str(error):  # a number for a name
        for word in words:
            group, _, name = word.lstrip("+").partition("=")
            if group in GROUPS and name not in options(group):
                return UnknownName(group, name, options(group))
    elif not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    return BadOverride(_explained(error, words))


def _explained(error: BaseException, words: Sequence[str]) -> str:
    cause = error.__cause__ or error
    text = " ".join(f"{error}".split())
    if "requires --multirun" in text or text.startswith("Ambiguous value for argument"):
        several = " or ".join(f"'{word}'" for word in words if word in text)
        return f"{several} gives several values, which is a sweep: polm-bench run -m ... makes a cell of each."
    if text.startswith("Multiple values for"):
        group = text.split()[3].rstrip(".")
        twice = [word for word in words if word.lstrip("+").startswith(f"{group}=")]
        return f"{' and '.join(twice)}: one cell has one {group}. For a cell of each: polm-bench run -m +{group}=A,B."
    for word in words:
        name, equals, _ = word.lstrip("+~").partition("=")
        if "/" in name and not equals:  # the value of an option of Hydra's
            continue
        if f"'{name}'" in text or f"Key '{name.rpartition('.')[2]}'" in f"{text} {cause}":
            near = difflib.get_close_matches(name, set(known(words)), n=3, cutoff=0.6)
            meant = (_owners(name) if equals else _choices(name)) or near
            hint = (
                f"Did you mean {' or '.join(meant)}?"
                if meant
                else f"Groups: {', '.join(GROUPS)}; see 'polm-bench plan --help'."
            )
            return f"'{word}': there is no setting '{name}'. {hint}"
    wrong = getattr(error, "override", None)
    return (
        f"'{wrong}': it can't be read ({text.split(' See https')[0]}). Close its brackets and quotes."
        if wrong
        else text
    )


def _owners(name: str) -> list[str]:
    """The setting beside values of its group that have it, as `data=path data.path=`: those that users fill in, or three; a recipe's are its own."""
    group = name.partition(".")[0]
    if group not in GROUPS or group == "recipe":
        return []
    having = [value for value in options(group) if name in known([f"{group}={value}"])]
    return [f"{group}={value} {name}=" for value in (["path"] if "path" in having else having[:3])]


def _choices(name: str) -> list[str]:
    """The overrides that choose a value of this name, as `+recipe=dpo` for `dpo`."""
    return [f"{'+' if group == 'recipe' else ''}{group}={name}" for group in GROUPS if name in options(group)]


def invalid(place: str, error: Any) -> PolmError:
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
