"""What conf/recipe/ says of each method: read from its YAML, so that a table has a line also for what was never run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from polm_bench.errors import BadData
from polm_bench.settings import composed

PARADIGMS = ("baseline", "fine_tuning", "alignment", "reasoning", "efficiency", "integration")


@dataclass(frozen=True)
class Said:
    """What a method's paper claims for its own number, as the recipe states it."""

    metric: str  # a task, task/metric, or a cost of the record
    against: str  # base, start, or another recipe
    kind: str  # gain, or keep
    source: str
    margin: float
    saves: str | None
    note: str | None


@dataclass(frozen=True)
class Facts:
    """A recipe's `meta`, and the claim in it."""

    name: str
    meta: Mapping[str, Any]
    claim: Said | None

    @property
    def title(self) -> str:
        return str(self.meta.get("title") or self.name)

    @property
    def paradigm(self) -> str:
        return str(self.meta.get("paradigm") or "")

    @property
    def family(self) -> str:
        return str(self.meta.get("family") or "")

    @property
    def survey(self) -> tuple[str, ...]:
        """Keys of the survey's methods that the recipe covers."""
        return tuple(map(str, self.meta.get("survey") or ()))


@lru_cache(maxsize=8)
def recipe_facts(conf_dir: Path) -> dict[str, Facts]:
    """Facts of every recipe by name, in order of paradigm, then of name. Raises BadData for a YAML that can't be read."""
    folder = Path(conf_dir) / "recipe"
    names = sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))
    metas = {name: composed(folder / f"{name}.yaml").get("meta") or {} for name in names}
    found = [Facts(name, meta, _said(name, meta)) for name, meta in metas.items()]
    order = {paradigm: place for place, paradigm in enumerate(PARADIGMS)}
    return {one.name: one for one in sorted(found, key=lambda one: (order.get(one.paradigm, len(order)), one.name))}


def _said(name: str, meta: Mapping[str, Any]) -> Said | None:
    claim = meta.get("claim")
    if not claim:
        return None
    if missing := [part for part in ("metric", "against", "kind") if part not in claim]:
        raise BadData(f"conf/recipe/{name}.yaml: its meta.claim lacks {', '.join(missing)}.")
    return Said(
        metric=str(claim["metric"]),
        against=str(claim["against"]),
        kind=str(claim["kind"]),
        source=str(claim.get("source") or ""),
        margin=float(claim.get("margin") or 0.0),
        saves=claim.get("saves"),
        note=claim.get("note"),
    )
