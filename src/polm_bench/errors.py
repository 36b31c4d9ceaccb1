"""What a user can do wrong, one class per kind of mistake.

Every message says what was asked, what there is and what to do. The command line prints it without a traceback and exits with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20  # names in a message, at most


class PolmError(Exception):
    """A mistake the user can mend; nothing was started."""


class UnknownName(PolmError):
    """A recipe, model, group value, table or record that does not exist."""

    def __init__(self, kind: str, asked: str, known: Iterable[str], hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(asked, names, n=3, cutoff=0.5) or _near_begun(asked, names)
        shown = [*names[:SHOWN], *([f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else [])]
        there = f"Did you mean {' or '.join(near)}?" if near else f"There is: {', '.join(shown) or 'nothing'}."
        super().__init__(f"no {kind} named '{asked}'. {there}{' ' + hint if hint else ''}")


def _near_begun(asked: str, names: Sequence[str]) -> list[str]:
    """Names of records that begin with a recipe like the one that was asked for."""
    begun = {name.partition("-")[0] for name in names}
    near = difflib.get_close_matches(asked.partition("-")[0], begun, n=1, cutoff=0.7)
    return [name for name in names if name.partition("-")[0] in near][:3]


class BadOverride(PolmError):
    """An override that names no setting, or gives one a value of the wrong type."""


class MissingRole(PolmError):
    """A recipe needs a data role that the chosen data does not supply."""

    def __init__(self, recipe: str, role: str, data: str, has: Iterable[str]) -> None:
        super().__init__(
            f"recipe '{recipe}' needs the data role '{role}', but data={data} has only: {', '.join(sorted(has))}. "
            f"Choose data=nano, which has every role, or add the role to conf/data/{data}.yaml."
        )


class BadData(PolmError):
    """Data that is missing, empty, unreadable or has a bad row; names file, line and field."""


class BadModel(PolmError):
    """A model folder that cannot be used: no weights, no tokenizer, pickle weights only, a wrong end token."""


class BadBudget(PolmError):
    """A budget that cannot be spent: zero, negative, or of an unknown unit."""


class StoreError(PolmError):
    """The store cannot be written, is full, or holds something that is not what its manifest says."""


class TooLarge(PolmError):
    """Work that this machine has no room for, by what is known before it starts."""


class Unreachable(PolmError):
    """Something that must be fetched first, and neither the network nor the cache has it."""


class MissingExtra(PolmError):
    """An optional part that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional part that is not installed. Install it: pip install 'polm-bench[{extra}]'."
        )


class Diverged(ArithmeticError):
    """A loss or weights that are no longer finite: a result of the method, not the user's mistake."""


class EmptyHarvest(Diverged):
    """A model's own answers were to be learned from, and none was fit to keep: a result of the method too."""


class PartDone(Exception):
    """No mistake: one of several processes that share a stage has done its part, and what is left is the first one's."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
