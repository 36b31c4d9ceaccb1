"""What a recipe says of its tuning: which settings are tried, and what chooses among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID

Judge = Literal["completions", "pairs", "checked"]


@dataclass(frozen=True, config=FORBID)
class Dimension:
    """Values of one setting: a range, or a list of choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False  # drawn evenly by order of magnitude
    choices: tuple[float | int | bool | str, ...] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Dimension:
        if self.choices is not None:
            if not self.choices or self.low is not None or self.high is not None:
                raise ValueError("choices stand alone, and there is at least one")
        elif self.low is None or self.high is None or self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("give choices, or a low below a high (above zero where log is true)")
        return self


@dataclass(frozen=True, config=FORBID)
class Search:
    """The `search:` of a recipe."""

    by: Judge  # what is said of the validation rows: likelihood of completions, chosen above rejected, checked answers
    space: Mapping[str, Dimension] = Field(min_length=1)  # setting of the recipe, with dots -> its values


def search_of(declared: Mapping[str, Any] | None, recipe: str) -> Search:
    """The declared search. Raises BadOverride where a recipe declares none, or a wrong one."""
    if not declared:
        raise BadOverride(
            f"recipe '{recipe}' declares no search space. Add `search: {{by: ..., space: {{...}}}}` to conf/recipe/{recipe}.yaml, as in dpo.yaml."
        )
    try:
        return Search(**declared)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadOverride(f"recipe.search.{place}: {first['msg'].removeprefix('Value error, ')}.") from error
