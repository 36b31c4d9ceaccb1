"""Mistakes in overrides, which Hydra and pydantic find, told by the words that the user wrote."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from polm_bench.errors import BadBudget, BadOverride, PolmError, UnknownName
from polm_bench.settings import GROUPS, known, options


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


def _mistake(error: Exception, words: Sequence[str]) -> PolmError | None:
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
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
    for word in words:
        name, equals, _ = word.lstrip("+~").partition("=")
        if "/" in name and not equals:  # the value of an option of Hydra's
            continue
        if f"'{name}'" in text or f"Key '{name.rpartition('.')[2]}'" in f"{text} {cause}":
            near = difflib.get_close_matches(name, set(known(words)), n=3, cutoff=0.6)
            meant = ([] if equals else _choices(name)) or near
            hint = (
                f"Did you mean {' or '.join(meant)}?"
                if meant
                else f"Groups: {', '.join(GROUPS)}; see 'polm-bench plan --help'."
            )
            return f"'{word}': there is no setting '{name}'. {hint}"
    wrong = getattr(error, "override", None)
    return f"'{wrong}': {text.split(' See https')[0]}" if wrong else text


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
